package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

func TestRetryBuild(t *testing.T) {
	h := newHarness(t)
	h.store.add(store.NewBuild{
		ID: "b1", Project: "web", Prompt: "a page", Plan: &buildcast.Plan{Name: "site", Build: "make"}, Deploy: buildcast.DeployNone,
		Options: buildcast.Options{Planner: "static", NoCache: true, RetryOf: "b0", RetryFrom: buildcast.RetryStart},
	})
	h.append("b1", buildcast.BuildFailed)
	for body, from := range map[string]string{"": buildcast.RetryFailed, "{}": buildcast.RetryFailed, `{"from":"failed"}`: buildcast.RetryFailed, `{"from":"start"}`: buildcast.RetryStart} {
		a := h.post("/api/builds/b1/retry", body).want(http.StatusCreated)
		b := decode[buildcast.Build](a)
		if _, err := ulid.ParseStrict(b.ID); err != nil || a.Header.Get("Location") != "/api/builds/"+b.ID {
			t.Errorf("%s: id %q, Location %q", body, b.ID, a.Header.Get("Location"))
		}
		want := h.store.builds["b1"].build
		want.ID, want.Status, want.CreatedAt = b.ID, b.Status, b.CreatedAt
		want.RetryOf, want.RetryFrom = "b1", from
		if d := cmp.Diff(want, b, cmp.Comparer(buildcast.Time.Equal)); d != "" || b.Status.Phase != buildcast.Queued {
			t.Errorf("%s: %s (-want +got):\n%s", body, b.Status.Phase, d)
		}
	}
}

func TestRetryBuildIdempotencyKey(t *testing.T) {
	h := newHarness(t)
	h.post("/api/builds", `{"id":"b1","plan":`+planJSON+`}`, "Idempotency-Key", "k0").want(http.StatusCreated)
	h.append("b1", buildcast.BuildFailed)
	first := decode[buildcast.Build](h.post("/api/builds/b1/retry", "", "Idempotency-Key", "k1").want(http.StatusCreated))
	again := decode[buildcast.Build](h.post("/api/builds/b1/retry", "{}", "Idempotency-Key", "k1").want(http.StatusOK))
	if first.ID != again.ID {
		t.Errorf("ids %s and %s", first.ID, again.ID)
	}
	h.post("/api/builds/b1/retry", `{"from":"start"}`, "Idempotency-Key", "k1").want(http.StatusConflict)
	h.post("/api/builds/b1/retry", "", "Idempotency-Key", "k0").want(http.StatusConflict)
	h.post("/api/builds/b1/retry", "", "Idempotency-Key", strings.Repeat("k", 201)).want(http.StatusBadRequest).problem(buildcast.InvalidArgument, "Idempotency-Key")
}

func TestRetryBuildRefuses(t *testing.T) {
	h := newHarness(t)
	h.post("/api/builds", `{"id":"runs","plan":`+planJSON+`}`).want(http.StatusCreated)
	h.append("external", buildcast.BuildFailed)
	h.post("/api/builds/none/retry", "").want(http.StatusNotFound).problem(buildcast.NotFound, "")
	h.post("/api/builds/runs/retry", "").want(http.StatusConflict).problem(buildcast.NotFinished, "")
	p := h.post("/api/builds/external/retry", "").want(http.StatusBadRequest)
	p.problem(buildcast.InvalidArgument, "id")
	if !strings.Contains(string(p.Body), "run by another program") {
		t.Errorf("%s", p.Body)
	}
	h.append("runs", buildcast.BuildCancelled)
	h.post("/api/builds/runs/retry", `{"from":"middle"}`).want(http.StatusBadRequest).problem(buildcast.InvalidArgument, "from")
	h.post("/api/builds/runs/retry", `{"form":"start"}`).want(http.StatusBadRequest)
	h.post("/api/builds/runs/retry", "").want(http.StatusCreated)
}
