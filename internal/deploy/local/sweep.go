package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/buildcast/buildcast/internal/cleanup"
	"github.com/buildcast/buildcast/internal/deploy"
)

// Run removes previews older than Retain, previews whose build no longer exists,
// and what a crash left behind: at once, and then each hour. It returns nil when
// ctx ends.
func (t *Target) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := t.sweep(ctx); err != nil && ctx.Err() == nil {
			t.log.Warn("old previews could not be removed; the next attempt is in an hour", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (t *Target) sweep(ctx context.Context) error {
	removed, err := t.Clean(ctx, cleanup.Request{}, func(int, int) {})
	if removed.Count > 0 {
		t.log.Info("removed old previews", "count", removed.Count)
	}
	return errors.Join(err, t.sweepVersions(ctx))
}

// Clean removes the previews that are too old, and those whose build no longer exists;
// see cleanup.Part.
func (t *Target) Clean(ctx context.Context, r cleanup.Request, progress func(done, total int)) (removed cleanup.Removed, _ error) {
	before := r.Before(time.Now(), t.retain)
	old := func(version string) bool {
		at, ok := publishedAt(version)
		return !ok || at.Before(before)
	}
	names, errs := list(t.sites())
	for i, name := range names {
		if ctx.Err() != nil {
			return removed, context.Cause(ctx)
		}
		label, ok := strings.CutPrefix(name, sitePrefix)
		if !ok || !r.Every() && !r.Matches(deploy.Branch(buildOf(label))) {
			continue
		}
		err := t.cleanSite(label, t.orphaned(ctx, label, old), r.DryRun, &removed)
		errs = errors.Join(errs, err)
		progress(i+1, len(names))
	}
	return removed, errs
}

// cleanSite removes the site if its version is to be removed, or only counts it.
func (t *Target) cleanSite(label string, gone func(version string) bool, dry bool, removed *cleanup.Removed) error {
	t.mu.RLock()
	version, err := t.current(label)
	t.mu.RUnlock()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil || !gone(version):
		return err
	}
	bytes := cleanup.Size(filepath.Join(t.versions(), version))
	if dry {
		removed.Add(bytes)
		return nil
	}
	ok, err := t.unlink(label, gone)
	if ok && err == nil {
		removed.Add(bytes)
	}
	return err
}

// orphaned returns the versions of the site that are to be removed: the old ones,
// and the current one if its build no longer exists.
func (t *Target) orphaned(ctx context.Context, label string, old func(string) bool) func(version string) bool {
	t.mu.RLock()
	present, err := t.current(label)
	t.mu.RUnlock()
	if t.exists == nil || err != nil {
		return old
	}
	if id := buildOf(label); id != "" {
		if exists, err := t.exists(ctx, id); exists || err != nil {
			return old // the preview stays if the store does not answer
		}
	}
	return func(version string) bool { return version == present || old(version) }
}

// sweepVersions removes the versions that no site points to and no deploy is writing.
func (t *Target) sweepVersions(ctx context.Context) error {
	names, errs := list(t.versions())
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !t.inUse(name) {
			t.discard(name)
		}
	}
	return errs
}

func (t *Target) inUse(version string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if _, ok := t.making[version]; ok {
		return true
	}
	label, _, _ := strings.Cut(version, ".")
	current, err := t.current(label)
	return err == nil && current == version
}

// list returns the names in the directory; none if it does not exist yet.
func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}
