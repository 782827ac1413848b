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
	"slices"
	"strings"

	"github.com/klauspost/compress/gzhttp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/examples"
	"github.com/buildcast/buildcast/internal/dashboard/web"
	"github.com/buildcast/buildcast/js"
)

// policy allows a page to load from and connect to this server only, and to run no
// inline script: if an event's text were inserted as HTML by mistake, it could not
// run. ws: and wss: are for browsers in which 'self' does not cover WebSocket. What
// the page may show in a frame is added to it.
const policy = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; " +
	"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; frame-src "

// Config configures the dashboard. Statuses and CheckHost are required.
type Config struct {
	// Statuses returns the statuses of the existing builds among the ids.
	Statuses func(ctx context.Context, buildIDs []string) (map[string]buildcast.Status, error)
	// CheckHost refuses requests with a foreign host name (DNS rebinding); see auth.Guard.
	CheckHost func(r *http.Request) error
	// Previews returns the addresses that the build's page may show in a frame, as
	// sources of a Content-Security-Policy. Nil: none.
	Previews func(buildID string) []string
}

// Routes are the patterns, as of http.ServeMux, that Handler answers.
func Routes() []string {
	return []string{"GET /{$}", "GET /new", "GET /builds/{id}", "GET /webhooks", "GET /badge/{file}", "GET /assets/"}
}

// New returns the handler of Routes. It panics if an embedded file cannot be read:
// that would be a defect of the program.
func New(c Config) http.Handler {
	mux := http.NewServeMux()
	list, build := page("index.html"), page("build.html")
	mux.Handle("GET /{$}", list)
	mux.Handle("GET /new", page("new.html"))
	mux.Handle("GET /webhooks", page("webhooks.html"))
	mux.HandleFunc("GET /builds/{id}", func(w http.ResponseWriter, r *http.Request) {
		if buildcast.ValidateBuildID(r.PathValue("id")) != nil {
			build.serve(w, r, http.StatusNotFound) // its module shows the error and a link back
			return
		}
		w.Header().Set("Content-Security-Policy", policy+c.frames(r.PathValue("id")))
		build.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /badge/{file}", c.badge)
	addFiles(mux, "/assets/", web.Assets)
	client, err := fs.Sub(js.Source, "src")
	if err != nil {
		panic(err)
	}
	addFiles(mux, "/assets/js/", client)
	addFiles(mux, "/assets/examples/", examples.Plans)

	zip, err := gzhttp.NewWrapper(gzhttp.EnableZstd(false))
	if err != nil {
		panic(err)
	}
	zipped := zip(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy+noFrames)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		if err := c.CheckHost(r); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		zipped.ServeHTTP(w, r)
	})
}

// noFrames ends the policy of pages that show nothing in a frame.
const noFrames = "'none'"

// frames ends the policy of a build's page. It leaves out what a policy cannot hold:
// those previews are links.
func (c Config) frames(buildID string) string {
	if c.Previews == nil {
		return noFrames
	}
	sources := slices.DeleteFunc(c.Previews(buildID), func(s string) bool { return s == "" || strings.ContainsAny(s, " ;,'") })
	if len(sources) == 0 {
		return noFrames
	}
	return strings.Join(sources, " ")
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
