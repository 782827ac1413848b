package client

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
)

func TestPlanAndAbilities(t *testing.T) {
	var asked PlanRequest
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "POST /api/plans":
			if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
				t.Error(err)
			}
			reply(w, http.StatusOK, map[string]any{"plan": map[string]any{"name": "site", "build": "true"}, "planner": "someone", "model": "m1"})
		case "GET /api/server":
			reply(w, http.StatusOK, map[string]any{"planners": []any{map[string]any{"name": "someone"}}, "targets": []string{"local"}, "sandbox": "none"})
		default:
			t.Errorf("%s %s", r.Method, r.URL)
		}
	}))
	defer s.Close()
	c, err := New(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	request := PlanRequest{Prompt: "a site", Project: "web", Planner: "someone", NoCache: true}
	made, err := c.Plan(t.Context(), request)
	want := Planned{Plan: &buildcast.Plan{Name: "site", Build: "true"}, Planner: "someone", Model: "m1"}
	if diff := cmp.Diff(want, made); diff != "" || err != nil || asked != request {
		t.Errorf("%v %v asked %+v", diff, err, asked)
	}
	can, err := c.Abilities(t.Context())
	if diff := cmp.Diff(Abilities{Planners: []Planner{{Name: "someone"}}, Targets: []string{"local"}, Sandbox: "none"}, can); diff != "" || err != nil {
		t.Error(diff, err)
	}
}
