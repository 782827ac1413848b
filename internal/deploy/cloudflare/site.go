package cloudflare

import (
	"context"
	"io"
	"io/fs"
	"mime"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/buildcast/buildcast"
)

// Limits of a site.
const (
	maxFiles    = 20_000   // unless the upload token says otherwise
	maxFileSize = 25 << 20 // bytes
	maxSpecial  = 1 << 20  // bytes of _headers, _redirects and _routes.json each
	maxWorker   = 25 << 20 // bytes of _worker.js
)

// special are the files at the root that configure the deployment. They are sent
// with it and are not assets.
var special = []string{"_headers", "_redirects", "_routes.json", "_worker.js"}

// site is what one deployment consists of.
type site struct {
	root    *os.Root
	assets  []asset
	special []string // those of special that are there
	bytes   int64    // of the assets
}

// asset is one file of the site.
type asset struct {
	path string // below the root
	size int64
	hash string
}

// ignored reports whether a path is not part of a site.
func ignored(name string, dir bool) bool {
	switch base := path.Base(name); {
	case dir && (base == "node_modules" || base == ".git" || base == ".wrangler"):
		return true
	case dir && name == "functions":
		return true
	default:
		return !dir && base == ".DS_Store"
	}
}

// readSite lists the regular files below the root and hashes them. Whoever made them
// is not trusted: links are not followed, and what is neither a file nor a directory
// is refused.
func readSite(ctx context.Context, root *os.Root) (*site, error) {
	s := &site{root: root}
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return buildcast.Errorf(buildcast.InvalidArgument, "%q in the output cannot be read", name).At("output").Because(err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case d.IsDir() && ignored(name, true):
			return fs.SkipDir
		case d.IsDir() || ignored(name, false):
			return nil
		case !d.Type().IsRegular():
			return buildcast.Errorf(buildcast.InvalidArgument, "%q in the output is not a regular file: only files and directories can be deployed to Cloudflare", name).At("output")
		}
		return s.add(name, d)
	})
	if err != nil {
		return nil, err
	}
	if len(s.assets) == 0 && len(s.special) == 0 {
		return nil, buildcast.Errorf(buildcast.InvalidArgument, "the output has no files: let the build write an index.html into it, or name another directory in the plan's output").At("output")
	}
	return s, nil
}

func (s *site) add(name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return buildcast.Errorf(buildcast.InvalidArgument, "%q in the output cannot be read", name).At("output").Because(err)
	}
	limit := int64(maxFileSize)
	if slices.Contains(special, name) {
		if name != "_worker.js" {
			limit = maxSpecial
		}
		s.special = append(s.special, name)
	}
	if info.Size() > limit {
		return buildcast.Errorf(buildcast.TooLarge, "%q has %d bytes, the limit of Cloudflare Pages is %d MiB", name, info.Size(), limit>>20).At("output")
	}
	if slices.Contains(special, name) {
		return nil
	}
	if len(s.assets) >= maxFiles {
		return buildcast.Errorf(buildcast.TooLarge, "the output has more than %d files, the limit of Cloudflare Pages: name the directory of the finished site in the plan's output", maxFiles).At("output")
	}
	hash, err := s.hash(name)
	if err != nil {
		return err
	}
	s.assets = append(s.assets, asset{name, info.Size(), hash})
	s.bytes += info.Size()
	return nil
}

func (s *site) hash(name string) (string, error) {
	f, err := s.root.Open(name)
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

// contentType is what the asset is served as: without a charset, as the service
// expects it.
func contentType(name string) string {
	full := mime.TypeByExtension(strings.ToLower(path.Ext(name)))
	kind, _, _ := strings.Cut(full, ";")
	if kind == "" {
		return "application/octet-stream"
	}
	return kind
}
