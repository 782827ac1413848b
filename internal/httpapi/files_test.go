package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
)

func TestValidatePlan(t *testing.T) {
	h := newHarness(t)
	send := func(name, content string) httpAnswer {
		t.Helper()
		text, err := json.Marshal(map[string]string{"name": name, "content": content})
		if err != nil {
			t.Fatal(err)
		}
		return h.post("/api/plans/validate", string(text))
	}
	got := decode[struct{ Plan buildcast.Plan }](send("site.yaml", "name: site\ntasks:\n  - name: one\n    run: |\n      true\n").want(http.StatusOK))
	if got.Plan.Name != "site" || len(got.Plan.Tasks) != 1 || got.Plan.Tasks[0].Run != "true\n" {
		t.Errorf("plan %+v", got.Plan)
	}
	send("", planJSON).want(http.StatusOK)
	for name, tt := range map[string]struct {
		file, content string
		code          buildcast.Code
		field, says   string
	}{
		"a need that is no task": {"site.yaml", "name: site\ntasks:\n  - name: one\n    run: x\n    needs: [two]\n", buildcast.InvalidArgument, "tasks[0].needs[0]", "site.yaml:5:13: tasks[0].needs[0]: "},
		"not YAML":               {"", "name: 'site", buildcast.InvalidArgument, "", "plan.yaml:1:"},
		"a file of the server":   {"", "name: site\ntasks:\n  - name: one\n    files: {a: {from: /etc/passwd}}\n", buildcast.InvalidArgument, "tasks[0].files.a.from", "buildcast build"},
		"nothing":                {"", "", buildcast.InvalidArgument, "content", "send the text"},
		"too much":               {"", strings.Repeat("#", 1<<20+1), buildcast.TooLarge, "", "1048576"},
		"a long name":            {strings.Repeat("x", 201), "name: site", buildcast.InvalidArgument, "name", "200"},
	} {
		t.Run(name, func(t *testing.T) {
			p := send(tt.file, tt.content).problem(tt.code, tt.field)
			if !strings.Contains(p.Detail, tt.says) {
				t.Errorf("detail %q does not say %q", p.Detail, tt.says)
			}
		})
	}
	if page := decode[builds](h.get("/api/builds").want(http.StatusOK)); len(page.Builds) > 0 {
		t.Error("a build was made")
	}
}
