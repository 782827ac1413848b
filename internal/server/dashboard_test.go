package server

import (
	"net/http"
	"strings"
	"testing"
)

// The dashboard's routes do not hide routes of the API.
func TestDashboardBesideTheAPI(t *testing.T) {
	s, _ := start(t, settings(t))
	for path, want := range map[string]struct {
		status int
		part   string
	}{
		"/":                     {http.StatusOK, "<title>Builds"},
		"/builds/b1":            {http.StatusOK, "<title>Build "},
		"/webhooks":             {http.StatusOK, "<title>Webhooks"},
		"/badge/b1.svg":         {http.StatusNotFound, "<svg"},
		"/assets/js/index.js":   {http.StatusOK, "class BuildProgress"},
		"/api/builds":           {http.StatusOK, `"builds":[]`},
		"/api/builds/b1/status": {http.StatusNotFound, `"code":"not_found"`},
		"/healthz":              {http.StatusOK, ""},
		"/openapi.json":         {http.StatusOK, `"openapi"`},
		"/docs":                 {http.StatusOK, "<html"},
		"/nothing":              {http.StatusNotFound, `"code":"not_found"`},
	} {
		status, body := get(t, s.URL()+path)
		if status != want.status || !strings.Contains(body, want.part) {
			t.Errorf("%s: %d %.200s", path, status, body)
		}
	}
}
