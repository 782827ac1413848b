package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"github.com/buildcast/buildcast"
)

const planJSON = `{"name":"site","tasks":[{"name":"page","files":{"index.html":"<h1>hi</h1>"}}]}`

func TestCreateBuild(t *testing.T) {
	h := newHarness(t)
	a := h.post("/api/builds", `{"id":"b1","project":"web","plan":`+planJSON+`,"deploy":"none"}`).want(http.StatusCreated)
	b := decode[buildcast.Build](a)
	if b.ID != "b1" || b.Project != "web" || b.Deploy != "none" || b.Plan.Name != "site" || b.Status.Phase != buildcast.Queued {
		t.Errorf("build %+v", b)
	}
	if got := a.Header.Get("Location"); got != "/api/builds/b1" {
		t.Errorf("Location %q", got)
	}
	again := h.post("/api/builds", `{"id":"b1","project":"web","plan":`+planJSON+`,"deploy":"none"}`).want(http.StatusOK)
	if !cmp.Equal(a.Body, again.Body) {
		t.Errorf("the repeat gives %s, the first gave %s", again.Body, a.Body)
	}
	h.post("/api/builds", `{"id":"b1","project":"other"}`).want(http.StatusConflict).problem(buildcast.Conflict, "id")
}

func TestCreateExternalBuild(t *testing.T) {
	h := newHarness(t)
	for _, body := range []string{"", "{}", ` {"project":"web"} `} {
		b := decode[buildcast.Build](h.post("/api/builds", body).want(http.StatusCreated))
		if _, err := ulid.ParseStrict(b.ID); err != nil {
			t.Errorf("id %q is no ULID: %v", b.ID, err)
		}
		if !b.External() {
			t.Errorf("%+v is not external", b)
		}
	}
}

func TestCreateBuildIdempotencyKey(t *testing.T) {
	h := newHarness(t)
	first := decode[buildcast.Build](h.post("/api/builds", `{"project":"web"}`, "Idempotency-Key", "k1").want(http.StatusCreated))
	again := decode[buildcast.Build](h.post("/api/builds", `{"project":"web"}`, "Idempotency-Key", "k1").want(http.StatusOK))
	if first.ID != again.ID {
		t.Errorf("ids %s and %s", first.ID, again.ID)
	}
	h.post("/api/builds", `{"project":"other"}`, "Idempotency-Key", "k1").want(http.StatusConflict)
	h.post("/api/builds", `{}`, "Idempotency-Key", strings.Repeat("k", 201)).want(http.StatusBadRequest).problem(buildcast.InvalidArgument, "Idempotency-Key")
}

func TestCreateBuildRefuses(t *testing.T) {
	h := newHarness(t)
	tests := []struct {
		name, body string
		code       buildcast.Code
		field      string
		says       string
	}{
		{"a bad id", `{"id":"a b"}`, buildcast.InvalidArgument, "id", "A-Z"},
		{"a long id", `{"id":"` + strings.Repeat("a", 27) + `"}`, buildcast.InvalidArgument, "id", "26"},
		{"an unknown field", `{"projct":"web"}`, buildcast.InvalidArgument, "projct", "spelt"},
		{"an unknown field of a task", `{"plan":{"name":"x","tasks":[{"name":"t","rum":"ls"}]}}`, buildcast.InvalidArgument, "rum", "spelt"},
		{"a number for a text", `{"project":7}`, buildcast.InvalidArgument, "project", "send text"},
		{"a text for a plan's tasks", `{"plan":{"name":"x","tasks":"all"}}`, buildcast.InvalidArgument, "plan.tasks", "send an array"},
		{"an array for the object", `[]`, buildcast.InvalidArgument, "", "send an object"},
		{"a long project", `{"project":"` + strings.Repeat("p", buildcast.MaxProject+1) + `"}`, buildcast.InvalidArgument, "project", "200"},
		{"a project with a control character", `{"project":"a\u0007"}`, buildcast.InvalidArgument, "project", "control"},
		{"an unknown target", `{"deploy":"moon"}`, buildcast.InvalidArgument, "deploy", "local"},
		{"plan and prompt", `{"prompt":"a site","plan":` + planJSON + `}`, buildcast.InvalidArgument, "prompt", "both"},
		{"a prompt alone", `{"prompt":"a site"}`, buildcast.NoPlanner, "prompt", "send a plan"},
		{"an invalid plan", `{"plan":{"name":"x","tasks":[{"name":"t"}]}}`, buildcast.InvalidArgument, "plan.tasks[0]", "does nothing"},
		{"a plan that needs what is not there", `{"plan":{"name":"x","tasks":[{"name":"t","run":"ls","needs":["u"]}]}}`, buildcast.InvalidArgument, "plan.tasks[0].needs[0]", `"u"`},
		{"a path outside", `{"plan":{"name":"x","tasks":[{"name":"t","files":{"../up":""}}]}}`, buildcast.InvalidArgument, "plan.tasks[0].files", "below"},
		{"a file of the server's own", `{"plan":{"name":"x","tasks":[{"name":"t","files":{"a":{"from":"/etc/passwd"}}}]}}`, buildcast.InvalidArgument, "plan.tasks[0].files", "send the content"},
		{"a bad duration", `{"plan":{"name":"x","build":"ls","timeout":"soon"}}`, buildcast.InvalidArgument, "", "not a duration"},
		{"half a surrogate in the project", `{"project":"a\ud83d"}`, buildcast.InvalidArgument, "project", "surrogate"},
		{"half a surrogate in a plan", `{"plan":{"name":"x","tasks":[{"name":"t\ud83e","run":"ls"}]}}`, buildcast.InvalidArgument, "plan", "surrogate"},
		{"half a surrogate in the name of a file", `{"plan":{"name":"x","tasks":[{"name":"t","files":{"\ude00":"x"}}]}}`, buildcast.InvalidArgument, "plan", "surrogate"},
		{"half an object", `{"id":`, buildcast.InvalidArgument, "", "line 1, column 7"},
		{"a stray character", "{\n  \"id\" = 1}", buildcast.InvalidArgument, "", "line 2, column 8"},
		{"two objects", `{}{}`, buildcast.InvalidArgument, "", "line 1, column 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := h.post("/api/builds", tt.body)
			p := a.problem(tt.code, tt.field)
			if !strings.Contains(p.Detail, tt.says) {
				t.Errorf("detail %q does not say %q", p.Detail, tt.says)
			}
		})
	}
	if len(h.store.builds) > 0 {
		t.Errorf("builds were made: %v", h.store.builds)
	}
}

func TestGetBuildAndStatus(t *testing.T) {
	h := newHarness(t)
	h.append("b1", buildcast.PlanStarted)
	b := decode[buildcast.Build](h.get("/api/builds/b1").want(http.StatusOK))
	a := h.get("/api/builds/b1/status").want(http.StatusOK)
	s := decode[buildcast.Status](a)
	if b.ID != "b1" || s.Progress != 10 || s.LastEventID != 1 || !cmp.Equal(b.Status, s) {
		t.Errorf("build %+v, status %+v", b, s)
	}
	tag := a.Header.Get("ETag")
	if cached := h.get("/api/builds/b1/status", "If-None-Match", `"x", `+tag).want(http.StatusNotModified); len(cached.Body) > 0 {
		t.Errorf("a 304 has a body: %s", cached.Body)
	}
	h.append("b1", buildcast.PlanGenerated)
	h.get("/api/builds/b1/status", "If-None-Match", tag).want(http.StatusOK)
	for _, path := range []string{"/api/builds/none", "/api/builds/none/status"} {
		h.get(path).want(http.StatusNotFound).problem(buildcast.NotFound, "")
	}
	h.get("/api/builds/a.b/status").want(http.StatusBadRequest).problem(buildcast.InvalidArgument, "buildId")
}

func TestListBuilds(t *testing.T) {
	h := newHarness(t)
	for i := range 5 {
		h.post("/api/builds", fmt.Sprintf(`{"id":"b%d","project":"p%d"}`, i, i%2)).want(http.StatusCreated)
	}
	h.append("b3", buildcast.BuildFailed)
	ids := func(query string) (ids []string, next string) {
		l := decode[builds](h.get("/api/builds" + query).want(http.StatusOK))
		ids = []string{}
		for _, s := range l.Builds {
			ids = append(ids, s.BuildID)
		}
		return ids, l.Next
	}
	for query, want := range map[string][]string{
		"":                         {"b4", "b3", "b2", "b1", "b0"},
		"?project=p1":              {"b3", "b1"},
		"?status=failed":           {"b3"},
		"?project=p0&limit=2":      {"b4", "b2"},
		"?status=completed":        {},
		"?status=&project=&limit=": {"b4", "b3", "b2", "b1", "b0"},
	} {
		if got, _ := ids(query); !slices.Equal(got, want) {
			t.Errorf("%s gives %v, want %v", query, got, want)
		}
	}
	var all []string
	for query, pages := "?limit=2", 0; pages < 3; pages++ {
		got, next := ids(query)
		all = append(all, got...)
		if (next == "") != (pages == 2) {
			t.Errorf("page %d has next %q", pages, next)
		}
		query = "?limit=2&before=" + next
	}
	if want := []string{"b4", "b3", "b2", "b1", "b0"}; !slices.Equal(all, want) {
		t.Errorf("the pages give %v, want %v", all, want)
	}
	if got := string(h.get("/api/builds?project=none").Body); got != `{"builds":[],"next":""}` {
		t.Errorf("an empty list is %s", got)
	}
	for query, field := range map[string]string{
		"?status=done": "status", "?limit=0": "limit", "?limit=201": "limit", "?limit=x": "limit", "?before=x": "before",
		"?project=" + strings.Repeat("p", buildcast.MaxProject+1): "project", "?project=%00": "project", "?before=" + strings.Repeat("1", 201): "before",
	} {
		h.get("/api/builds"+query).want(http.StatusBadRequest).problem(buildcast.InvalidArgument, field)
	}
}

func TestCancelBuild(t *testing.T) {
	h := newHarness(t)
	h.append("b1", buildcast.PlanStarted)
	s := decode[buildcast.Status](h.post("/api/builds/b1/cancel", "").want(http.StatusAccepted))
	if s.Phase != buildcast.Cancelled || s.LastEventID != 2 {
		t.Errorf("status %+v", s)
	}
	again := decode[buildcast.Status](h.post("/api/builds/b1/cancel", "").want(http.StatusOK))
	if !cmp.Equal(s, again) || len(h.store.events("b1")) != 2 {
		t.Errorf("cancelled twice: %+v, %d events", again, len(h.store.events("b1")))
	}
	h.append("b2", buildcast.BuildCompleted)
	if s := decode[buildcast.Status](h.post("/api/builds/b2/cancel", "").want(http.StatusOK)); s.Phase != buildcast.Completed {
		t.Errorf("a finished build became %s", s.Phase)
	}
	h.post("/api/builds/none/cancel", "").want(http.StatusNotFound).problem(buildcast.NotFound, "")
}

func TestDeleteBuild(t *testing.T) {
	h := newHarness(t)
	h.append("b1", buildcast.PlanStarted)
	h.do("DELETE", "/api/builds/b1", "").want(http.StatusConflict).problem(buildcast.NotFinished, "")
	h.append("b1", buildcast.BuildFailed)
	if a := h.do("DELETE", "/api/builds/b1", "").want(http.StatusNoContent); len(a.Body) > 0 {
		t.Errorf("a 204 has a body: %s", a.Body)
	}
	h.do("DELETE", "/api/builds/b1", "").want(http.StatusNotFound).problem(buildcast.NotFound, "")
}

func TestListBuildsUnchanged(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a")
	tag := h.get("/api/builds").want(http.StatusOK).Header.Get("ETag")
	if same := h.get("/api/builds", "If-None-Match", tag).want(http.StatusNotModified); len(same.Body) > 0 || same.Header.Get("ETag") != tag {
		t.Errorf("304 with %v and %q", same.Header, same.Body)
	}
	h.get("/api/builds?status=failed", "If-None-Match", tag).want(http.StatusOK)
	h.append("b1", "b")
	if next := h.get("/api/builds", "If-None-Match", tag).want(http.StatusOK).Header.Get("ETag"); next == tag {
		t.Errorf("the list has changed, and its tag %s has not", tag)
	}
}
