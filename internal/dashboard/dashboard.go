// Package dashboard serves the pages on which people watch builds, and the badges
// that show a build's state on other pages.
//
// The pages hold no data: their modules read it from the API, in the browser,
// with the public JavaScript client. All files are in memory from the start, each
// with the hash of its content as its ETag.
package dashboard

import (
	"context"
	"io/fs"
	"net/http"
	"path"

	"github.com/klauspost/compress/gzhttp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/dashboard/web"
	"github.com/buildcast/buildcast/js"
)

// policy allows a page to load from and connect to this server only, and to run no
// inline script: if an event's text were inserted as HTML by mistake, it could not
// run. ws: and wss: are for browsers in which 'self' does not cover WebSocket.
const policy = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; " +
	"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// Config configures the dashboard. Both fields are required.
type Config struct {
	// Statuses returns the statuses of the existing builds among the ids.
	Statuses func(ctx context.Context, buildIDs []string) (map[string]buildcast.Status, error)
	// CheckHost refuses requests with a foreign host name (DNS rebinding); see auth.Guard.
	CheckHost func(r *http.Request) error
}

// Routes are the patterns, as of http.ServeMux, that Handler answers.
func Routes() []string {
	return []string{"GET /{$}", "GET /builds/{id}", "GET /webhooks", "GET /badge/{file}", "GET /assets/"}
}

// New returns the handler of Routes. It panics if an embedded file cannot be read:
// that would be a defect of the program.
func New(c Config) http.Handler {
	mux := http.NewServeMux()
	list, build := page("index.html"), page("build.html")
	mux.Handle("GET /{$}", list)
	mux.Handle("GET /webhooks", page("webhooks.html"))
	mux.HandleFunc("GET /builds/{id}", func(w http.ResponseWriter, r *http.Request) {
		if buildcast.ValidateBuildID(r.PathValue("id")) != nil {
			build.serve(w, r, http.StatusNotFound) // its module shows the error and a link back
			return
		}
		build.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /badge/{file}", c.badge)
	addFiles(mux, "/assets/", web.Assets)
	client, err := fs.Sub(js.Source, "src")
	if err != nil {
		panic(err)
	}
	addFiles(mux, "/assets/js/", client)

	zip, err := gzhttp.NewWrapper(gzhttp.EnableZstd(false))
	if err != nil {
		panic(err)
	}
	zipped := zip(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		if err := c.CheckHost(r); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		zipped.ServeHTTP(w, r)
	})
}

func page(name string) file { return read(web.Pages, name) }

// addFiles serves each file of the tree at prefix and its path.
func addFiles(mux *http.ServeMux, prefix string, tree fs.FS) {
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			mux.Handle("GET "+path.Join(prefix, name), read(tree, name))
		}
		return err
	})
	if err != nil {
		panic(err)
	}
}
