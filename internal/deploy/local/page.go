package local

import (
	"html/template"
	"net/http"
	"path"
	"strings"
)

// types holds the media types by extension. The machine's mime.types is not used:
// it may be missing, or differ from another machine's.
var types = map[string]string{
	".html": "text/html", ".htm": "text/html", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript",
	".txt": "text/plain", ".md": "text/markdown", ".csv": "text/csv", ".vtt": "text/vtt", ".ics": "text/calendar",
	".xml": "application/xml", ".rss": "application/rss+xml", ".atom": "application/atom+xml", ".xhtml": "application/xhtml+xml",
	".json": "application/json", ".map": "application/json", ".jsonld": "application/ld+json", ".geojson": "application/geo+json",
	".webmanifest": "application/manifest+json", ".wasm": "application/wasm", ".pdf": "application/pdf",
	".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif",
	".webp": "image/webp", ".avif": "image/avif", ".ico": "image/x-icon", ".bmp": "image/bmp", ".apng": "image/apng",
	".woff": "font/woff", ".woff2": "font/woff2", ".ttf": "font/ttf", ".otf": "font/otf",
	".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".ogg": "audio/ogg", ".wav": "audio/wav", ".flac": "audio/flac",
	".mp4": "video/mp4", ".webm": "video/webm", ".ogv": "video/ogg", ".mov": "video/quicktime",
	".zip": "application/zip", ".gz": "application/gzip", ".tar": "application/x-tar",
}

// contentType returns the media type of a file. Browsers offer a file of an unknown
// type as a download, because nosniff keeps them from guessing.
func contentType(name string) string {
	t, ok := types[strings.ToLower(path.Ext(name))]
	switch {
	case !ok:
		return "application/octet-stream"
	case strings.HasPrefix(t, "text/"):
		return t + "; charset=utf-8"
	}
	return t
}

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>
:root { color-scheme: light dark }
body { font: 1.05rem/1.6 system-ui, sans-serif; max-width: 34rem; margin: 18vh auto 0; padding: 0 1.5rem }
h1 { font-size: 1.4rem; margin: 0 0 .5rem }
p { margin: 0; opacity: .75 }
</style>
<h1>{{.Title}}</h1>
<p>{{.Text}}</p>
</html>
`))

// page answers with a small page of the preview server itself.
func (t *Target) page(w http.ResponseWriter, status int, title, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	w.WriteHeader(status)
	if err := pageTemplate.Execute(w, struct{ Title, Text string }{title, text}); err != nil {
		t.log.Debug("a page was not sent whole", "error", err)
	}
}
