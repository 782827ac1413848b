package httpapi

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/buildcast/buildcast/internal/httpapi/body"
)

//go:embed docs
var docsFiles embed.FS

// docsPolicy lets the page load its own two files and the document, and nothing
// from anywhere else: it works offline, and no text in it can become a script.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// serveDocs serves the OpenAPI document and a page that shows it. The documents
// are made once, here, after all operations were added.
func (a *api) serveDocs() error {
	asJSON, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		return fmt.Errorf("making the OpenAPI document: %w", err)
	}
	asYAML, err := a.huma.OpenAPI().YAML()
	if err != nil {
		return fmt.Errorf("making the OpenAPI document: %w", err)
	}
	a.static("GET /openapi.json", "application/openapi+json", asJSON)
	a.static("GET /openapi.yaml", "application/openapi+yaml", asYAML)
	for pattern, file := range map[string]struct{ name, contentType string }{
		"GET /docs":          {"docs/index.html", "text/html; charset=utf-8"},
		"GET /docs/docs.js":  {"docs/docs.js", "text/javascript; charset=utf-8"},
		"GET /docs/docs.css": {"docs/docs.css", "text/css; charset=utf-8"},
	} {
		content, err := docsFiles.ReadFile(file.name)
		if err != nil {
			return err
		}
		a.static(pattern, file.contentType, content)
	}
	return nil
}

// static serves bytes that are the same as long as the server runs.
func (a *api) static(pattern, contentType string, content []byte) {
	a.mux.Handle(pattern, a.gzip(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", docsPolicy)
		h.Set("Cache-Control", "no-cache")
		body.Send(w, http.StatusOK, contentType, content)
	})))
}
