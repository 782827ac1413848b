package cloudflare

import (
	"context"
	"io"
	"mime"
	"path"
	"slices"
	"strings"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deploy"
)

// Limits of a site.
const (
	maxFiles    = 20_000
	maxFileSize = 25 << 20 // bytes
	maxSpecial  = 1 << 20  // bytes of _headers, _redirects and _routes.json each
)

// special are the files at the root that configure the deployment. They are sent
// with it and are not assets.
var special = []string{"_headers", "_redirects", "_routes.json", worker}

// worker is the program that answers requests of the site.
const worker = "_worker.js"

// site is what one deployment consists of.
type site struct {
	*deploy.Output
	assets  []asset
	special []string // those of special that are there
}

// asset is one file of the site.
type asset struct {
	path string // below the root
	size int64
	hash string
}

// ignored reports whether a path is not part of a site.
func ignored(name string) bool {
	switch path.Base(name) {
	case "node_modules", ".git", ".wrangler", ".DS_Store":
		return true
	}
	return name == "functions"
}

// openSite lists the output.
func openSite(ctx context.Context, dir string) (*site, error) {
	output, err := deploy.Open(ctx, dir, deploy.Rules{Skip: ignored, MaxFiles: 2 * maxFiles})
	if err != nil {
		return nil, err
	}
	return &site{Output: output}, nil
}

// read sorts the files into assets and special ones, and hashes the assets. What the
// service would refuse is refused before a file is read.
func (s *site) read(ctx context.Context) error {
	if slices.Contains(s.Dirs, worker) {
		return buildcast.Errorf(buildcast.InvalidArgument, "%q in the output is a directory: bundle it into one file, because its parts would be public", worker).At("output")
	}
	if len(s.Files) > maxFiles+len(special) {
		return buildcast.Errorf(buildcast.TooLarge, "the output has %d files, the limit of Cloudflare Pages is %d: name the directory of the finished site in the plan's output", len(s.Files), maxFiles).At("output")
	}
	for _, f := range s.Files {
		if limit := sizeLimit(f.Path); f.Size > limit {
			return buildcast.Errorf(buildcast.TooLarge, "%q has %d bytes, the limit of Cloudflare Pages is %d MiB", f.Path, f.Size, limit>>20).At("output")
		}
	}
	for _, f := range s.Files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if slices.Contains(special, f.Path) {
			s.special = append(s.special, f.Path)
			continue
		}
		hash, err := s.hash(f.Path)
		if err != nil {
			return err
		}
		s.assets = append(s.assets, asset{f.Path, f.Size, hash})
	}
	return nil
}

func sizeLimit(name string) int64 {
	if name != worker && slices.Contains(special, name) {
		return maxSpecial
	}
	return maxFileSize
}

func (s *site) hash(name string) (string, error) {
	f, err := deploy.OpenRegular(s.Root, name)
	if err != nil {
		return "", buildcast.Errorf(buildcast.InvalidArgument, "%q in the output cannot be read", name).At("output").Because(err)
	}
	defer f.Close()
	hash, err := hashAsset(io.LimitReader(f, maxFileSize+1), name)
	if err != nil {
		return "", buildcast.Errorf(buildcast.InvalidArgument, "%q in the output cannot be read", name).At("output").Because(err)
	}
	return hash, nil
}

// manifest maps the paths of the site, each with a leading slash, to hashes.
func (s *site) manifest() map[string]string {
	m := make(map[string]string, len(s.assets))
	for _, a := range s.assets {
		m["/"+a.path] = a.hash
	}
	return m
}

// hashes are those of all assets, each once.
func (s *site) hashes() []string {
	all := make([]string, len(s.assets))
	for i, a := range s.assets {
		all[i] = a.hash
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// types are the content types of the web's usual files. They are the same as those of
// Cloudflare's own tool, on each machine: the system's table is asked only for others.
var types = map[string]string{
	".html": "text/html", ".htm": "text/html", ".css": "text/css", ".txt": "text/plain", ".md": "text/markdown", ".csv": "text/csv", ".ics": "text/calendar", ".vtt": "text/vtt",
	".js": "application/javascript", ".mjs": "application/javascript", ".cjs": "application/node", ".json": "application/json", ".map": "application/json",
	".webmanifest": "application/manifest+json", ".xml": "application/xml", ".rss": "application/rss+xml", ".atom": "application/atom+xml", ".xhtml": "application/xhtml+xml",
	".wasm": "application/wasm", ".pdf": "application/pdf", ".zip": "application/zip", ".gz": "application/gzip",
	".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp", ".avif": "image/avif", ".ico": "image/vnd.microsoft.icon",
	".woff": "font/woff", ".woff2": "font/woff2", ".ttf": "font/ttf", ".otf": "font/otf",
	".mp3": "audio/mpeg", ".wav": "audio/wav", ".mp4": "video/mp4", ".webm": "video/webm",
}

// contentType is what the asset is served as: without a charset, as the service
// expects it.
func contentType(name string) string {
	ext := strings.ToLower(path.Ext(name))
	if kind, ok := types[ext]; ok {
		return kind
	}
	kind, _, _ := strings.Cut(mime.TypeByExtension(ext), ";")
	if kind == "" {
		return "application/octet-stream"
	}
	return kind
}
