package httpapi

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/httpapi/schema"
)

func TestOpenAPI(t *testing.T) {
	h := newHarness(t)
	a := h.get("/openapi.json").want(200)
	var doc struct {
		OpenAPI    string                               `json:"openapi"`
		Info       struct{ Title, Version string }      `json:"info"`
		Paths      map[string]map[string]map[string]any `json:"paths"`
		Components struct{ Schemas map[string]any }     `json:"components"`
		Codes      []any                                `json:"x-problem-codes"`
	}
	if err := json.Unmarshal(a.Body, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || doc.Info.Title != "buildcast" || doc.Info.Version != "1.2.3" || len(doc.Codes) != len(problem.Codes) {
		t.Errorf("document %+v", doc.Info)
	}
	var operations []string
	for path, item := range doc.Paths {
		for method, op := range item {
			operations = append(operations, strings.ToUpper(method)+" "+path)
			if op["summary"] == "" || op["operationId"] == "" || len(op["responses"].(map[string]any)) == 0 {
				t.Errorf("%s %s says too little: %v", method, path, op)
			}
		}
	}
	slices.Sort(operations)
	want := []string{
		"DELETE /api/builds/{id}", "DELETE /api/webhooks/endpoints/{id}",
		"GET /api/builds", "GET /api/builds/{id}", "GET /api/builds/{id}/events", "GET /api/builds/{id}/status",
		"GET /api/cache", "GET /api/cache/why",
		"GET /api/server", "GET /api/webhooks/deliveries", "GET /api/webhooks/endpoints", "GET /api/webhooks/endpoints/{id}", "GET /api/webhooks/status",
		"GET /events", "GET /events/{id}", "GET /healthz", "GET /readyz", "PATCH /api/webhooks/endpoints/{id}",
		"POST /api/builds", "POST /api/builds/{id}/cancel", "POST /api/builds/{id}/events", "POST /api/builds/{id}/retry", "POST /api/cache/prune", "POST /api/cleanup", "POST /api/plans", "POST /api/plans/validate",
		"POST /api/webhooks/endpoints", "POST /api/webhooks/endpoints/{id}/redeliver", "POST /api/webhooks/endpoints/{id}/rewind",
		"POST /api/webhooks/endpoints/{id}/rotate-secret", "POST /api/webhooks/endpoints/{id}/test",
	}
	if !slices.Equal(operations, want) {
		t.Errorf("operations %q, want %q", operations, want)
	}
	for _, ref := range regexp.MustCompile(`"#/components/schemas/(\w+)"`).FindAllSubmatch(a.Body, -1) {
		if doc.Components.Schemas[string(ref[1])] == nil {
			t.Errorf("nothing is called %s", ref[1])
		}
	}
	for name, fields := range schema.Nouns {
		for field, text := range fields {
			if !strings.Contains(string(a.Body), `"description":"`+text+`"`) {
				t.Errorf("%s.%s is not described", name, field)
			}
		}
	}
	if strings.Contains(string(a.Body), "ErrorModel") {
		t.Error("huma's own errors are described: nothing answers with them")
	}
	if y := h.get("/openapi.yaml").want(200); !strings.HasPrefix(string(y.Body), "components:") && !strings.Contains(string(y.Body), "openapi: 3.1.0") {
		t.Errorf("the YAML begins %.60s", y.Body)
	}
}

// TestDocsLoadNothingFromElsewhere: the page works on a machine without a
// network, and nothing in it is made from text.
func TestDocsLoadNothingFromElsewhere(t *testing.T) {
	h := newHarness(t)
	for path, contentType := range map[string]string{"/docs": "text/html", "/docs/docs.js": "text/javascript", "/docs/docs.css": "text/css"} {
		a := h.get(path).want(200)
		if got := a.Header.Get("Content-Type"); !strings.HasPrefix(got, contentType) {
			t.Errorf("%s is %s", path, got)
		}
		if csp := a.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s has the policy %q", path, csp)
		}
		for _, bad := range []string{"http:", "https:", "//cdn", "innerHTML", "insertAdjacent", "document.write", "eval(", "onclick", "style=", "@import"} {
			if strings.Contains(string(a.Body), bad) {
				t.Errorf("%s contains %s", path, bad)
			}
		}
	}
}

// Lists are never null in answers: the document states it for all except a plan's tasks.
func TestOnlySomeFieldsMayBeNull(t *testing.T) {
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Type any }
			}
		}
	}
	if err := json.Unmarshal(newHarness(t).get("/openapi.json").want(200).Body, &doc); err != nil {
		t.Fatal(err)
	}
	var nullable []string
	lists := 0
	for name, schema := range doc.Components.Schemas {
		for field, s := range schema.Properties {
			types, several := s.Type.([]any)
			if several && slices.Contains(types, any("null")) {
				nullable = append(nullable, name+"."+field)
			}
			if s.Type == "array" {
				lists++
			}
		}
	}
	slices.Sort(nullable)
	want := []string{"DeliveryWindow.p50Ms", "DeliveryWindow.p99Ms", "DeliveryWindow.success", "Plan.tasks", "Status.finishedAt", "Status.startedAt"}
	if !slices.Equal(nullable, want) || lists < 5 {
		t.Errorf("%q may be null, want %q; %d lists may not", nullable, want, lists)
	}
}
