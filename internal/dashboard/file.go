package dashboard

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

// types holds the media types of the embedded files. The machine's own table is not
// used: some map .js to text/plain, and browsers then refuse the module.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".yaml": "application/yaml",
}

// file is a file that does not change while the program runs.
type file struct {
	body      []byte
	mediaType string
	etag      string
}

func read(tree fs.FS, name string) file {
	body, err := fs.ReadFile(tree, name)
	if err != nil {
		panic(err)
	}
	return file{body, types[path.Ext(name)], tagOf(body)}
}

// tagOf returns a weak tag, because the compressed form has the same tag.
func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `W/"` + hex.EncodeToString(sum[:12]) + `"`
}

func (f file) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.serve(w, r, http.StatusOK) }

// serve tells browsers to revalidate before each use, so that pages of a new version
// never run modules of the old one.
func (f file) serve(w http.ResponseWriter, r *http.Request, status int) {
	w.Header().Set("Cache-Control", "no-cache")
	f.send(w, r, status)
}

// send leaves Cache-Control to the caller.
func (f file) send(w http.ResponseWriter, r *http.Request, status int) {
	h := w.Header()
	h.Set("ETag", f.etag)
	if status == http.StatusOK && matches(r.Header.Get("If-None-Match"), f.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.mediaType)
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(f.body) // an error: the client has disconnected
	}
}

// matches compares weakly, as If-None-Match does.
func matches(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == strings.TrimPrefix(etag, "W/") {
			return true
		}
	}
	return false
}
