package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/npmcache"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/services"
)

// packages keeps what npm has downloaded in the cache, for the builds of all projects:
// each package is named by its hash, so it cannot be mistaken for another.
type packages struct{ cache *cache.Cache }

// packageBlob is the name of the content in an entry.
const packageBlob = "package"

var packageScope = cache.Scope{Org: services.DefaultOrg}

func packageKey(digest string) *cache.Key {
	k := &cache.Key{}
	k.Add(cache.PartOther, packageBlob, digest)
	return k
}

// Open implements npmcache.Store.
func (p packages) Open(ctx context.Context, digest string) (io.ReadCloser, error) {
	e := p.cache.Get(packageScope, packageKey(digest))
	if e == nil {
		return nil, fs.ErrNotExist
	}
	content, err := p.cache.Content(ctx, e, packageBlob)
	if err != nil && ctx.Err() == nil {
		return nil, fs.ErrNotExist // it was damaged
	}
	return content, err
}

// Has implements npmcache.Store.
func (p packages) Has(digest string) bool {
	return p.cache.Get(packageScope, packageKey(digest)) != nil
}

// Keep implements npmcache.Store.
func (p packages) Keep(ctx context.Context, digest string, write func(io.Writer) error) error {
	return p.cache.Put(ctx, packageScope, packageKey(digest), cache.Entry{Kind: cache.KindPackage}, map[string]cache.Source{packageBlob: write}, false)
}

// fillPackages gives the install command the packages that earlier builds have
// downloaded.
func (r *run) fillPackages(ctx context.Context) {
	n := r.withPackages(ctx, npmcache.Fill)
	if n > 0 {
		r.journal.Output(report.Source{Stage: report.Install}, []string{fmt.Sprintf("[packages that need not be downloaded: %d]", n)})
	}
}

// givePackages keeps the packages that the install command has downloaded. Builds in
// which a planner has a part only take: what a model asks for must not displace what
// people use.
func (r *run) givePackages(ctx context.Context) {
	if !r.build.Planned() {
		r.withPackages(ctx, npmcache.Give)
	}
}

// withPackages hands the packages on. If that fails, the build goes on: what is not
// there is downloaded.
func (r *run) withPackages(ctx context.Context, hand func(_ context.Context, workspace, home *os.Root, _ npmcache.Store) (int, error)) int {
	if r.pipeline.config.Cache == nil || r.build.NoCache {
		return 0
	}
	home, err := r.space.HomeRoot()
	if err != nil {
		return 0 // a command has removed it
	}
	n, err := hand(ctx, r.space.Root(), home, packages{r.pipeline.config.Cache})
	if err = errors.Join(err, home.Close()); err != nil && ctx.Err() == nil {
		r.log.Info("not all of npm's packages could be handed on", "error", err)
	}
	return n
}
