package local

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/buildcast/buildcast/internal/deploy"
	"github.com/buildcast/buildcast/internal/request"
)

// sandbox sets an opaque origin for a page: scripts run, but they have neither
// cookies nor storage, and no access to anything else on the host.
const sandbox = "sandbox allow-scripts allow-forms allow-popups"

// Handler serves the previews. It needs a port of its own: it serves other
// people's HTML, which must not share an origin with anything else.
//
// The host of its Address, or build-{label}.localhost, selects the build. On a
// loopback address the path /build-{label}/ selects it too; all builds share that
// origin, so these pages are sandboxed. Any other host is refused: otherwise a
// foreign name that resolves to this machine could read previews.
func (t *Target) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-cache") // browsers keep the page and ask each time whether it has changed
		h.Set("Referrer-Policy", "same-origin")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			t.page(w, http.StatusMethodNotAllowed, "Previews can only be read", "Use GET or HEAD.")
			return
		}
		host := hostname(r.Host)
		if label, ok := t.at.buildOf(host); ok {
			t.serve(w, r, label, strings.TrimPrefix(r.URL.Path, "/"))
			return
		}
		if !t.at.isShared(host) {
			t.page(w, http.StatusMisdirectedRequest, "Unknown host",
				"Previews are reached as "+t.at.of(sitePrefix+placeholder)+". If they have this address too, start the server with it as --preview-url.")
			return
		}
		h.Set("Content-Security-Policy", sandbox)
		t.serveByPath(w, r)
	})
}

func (t *Target) serveByPath(w http.ResponseWriter, r *http.Request) {
	first, name, slash := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	label, ok := strings.CutPrefix(first, sitePrefix)
	switch {
	case !ok || !isLabel(label):
		text := "Open a preview by the address that its build shows, such as " + t.at.of(sitePrefix+"27") + "."
		if sign := request.Forwarded(r); sign != "" {
			text = "A proxy has forwarded this request (" + sign + ") without the original host name. Configure it to pass the Host header on, or list it in --trusted-proxies if it sends X-Forwarded-Host."
		}
		t.page(w, http.StatusNotFound, "This is where previews are served", text)
	case !slash:
		redirect(w, "/"+first+"/", r.URL.RawQuery)
	default:
		t.serve(w, r, label, name)
	}
}

// serve answers with the site's file, its directory's index.html, or its 404.html.
func (t *Target) serve(w http.ResponseWriter, r *http.Request, label, name string) {
	s, err := t.open(label, name)
	switch {
	case errors.Is(err, errNoBuild):
		t.page(w, http.StatusNotFound, "No preview here", "This build has no preview: it is not deployed yet, or its preview was removed because it was too old.")
		return
	case errors.Is(err, errDirectory):
		redirect(w, "./"+path.Base(name)+"/", r.URL.RawQuery) // relative, so that it cannot lead to another host
		return
	case err != nil:
		t.notFound(w, r, label)
		return
	}
	defer s.file.Close()
	w.Header().Set("Content-Type", contentType(s.name))
	w.Header().Set("ETag", `"`+s.version+`"`)
	// No modification time is sent: two deploys within a second would have the same.
	http.ServeContent(w, r, s.name, time.Time{}, s.file)
}

// notFound serves the site's own 404.html if it has one.
func (t *Target) notFound(w http.ResponseWriter, r *http.Request, label string) {
	s, err := t.open(label, "404.html")
	if err != nil {
		t.page(w, http.StatusNotFound, "Not found", "This preview has no such page.")
		return
	}
	defer s.file.Close()
	w.Header().Set("Content-Type", contentType(s.name))
	if info, err := s.file.Stat(); err == nil {
		w.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	}
	w.WriteHeader(http.StatusNotFound)
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, s.file) // an error: the reader has closed the connection
	}
}

// siteFile is an open file of one version.
type siteFile struct {
	file    *os.File
	name    string
	version string
}

var (
	errNoBuild   = errors.New("no preview of this build")
	errDirectory = errors.New("a directory, asked for without its slash")
	errNoFile    = errors.New("no such file in the preview")
)

// open opens the file that the URL path name refers to. The version may be
// removed afterwards: an open file stays readable.
func (t *Target) open(label, name string) (*siteFile, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	version, err := t.current(label)
	if err != nil {
		return nil, errNoBuild
	}
	root, err := os.OpenRoot(filepath.Join(t.versions(), version))
	if err != nil {
		return nil, errNoBuild
	}
	defer root.Close()
	name, isDir, err := filePath(name)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(name)
	switch {
	case err != nil:
		return nil, errNoFile
	case info.IsDir() && !isDir:
		return nil, errDirectory
	case info.IsDir():
		name = path.Join(name, "index.html")
	case isDir:
		return nil, errNoFile // a file has nothing below it
	}
	f, err := deploy.OpenRegular(root, name)
	if err != nil {
		return nil, errNoFile
	}
	return &siteFile{f, name, version}, nil
}

// filePath returns the path below the site's root that a URL's path names, and
// whether it names a directory. It refuses every path that is not in its shortest
// form, instead of cleaning it, and every path that a deploy leaves out.
func filePath(name string) (string, bool, error) {
	trimmed, isDir := strings.CutSuffix(name, "/")
	if name == "" {
		trimmed, isDir = ".", true
	}
	if !fs.ValidPath(trimmed) || strings.ContainsAny(trimmed, "\\\x00") {
		return "", false, errNoFile
	}
	if trimmed != "." {
		for segment := range strings.SplitSeq(trimmed, "/") {
			if !deploy.Served(segment) {
				return "", false, errNoFile
			}
		}
	}
	return trimmed, isDir, nil
}

func redirect(w http.ResponseWriter, to, query string) {
	if query != "" {
		to += "?" + query
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusTemporaryRedirect)
}
