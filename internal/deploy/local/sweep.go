package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"
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
	removed, err := t.sweepSites(ctx)
	if removed > 0 {
		t.log.Info("removed old previews", "count", removed, "olderThan", t.retain)
	}
	return errors.Join(err, t.sweepVersions(ctx))
}

// sweepSites removes the previews that are too old or whose build no longer exists.
func (t *Target) sweepSites(ctx context.Context) (removed int, err error) {
	before := time.Now().Add(-t.retain)
	old := func(version string) bool {
		at, ok := publishedAt(version)
		return !ok || at.Before(before)
	}
	names, errs := list(t.sites())
	for _, name := range names {
		if ctx.Err() != nil {
			return removed, context.Cause(ctx)
		}
		label, ok := strings.CutPrefix(name, sitePrefix)
		if !ok {
			continue
		}
		gone, err := t.unlink(label, t.orphaned(ctx, label, old))
		if gone {
			removed++
		}
		errs = errors.Join(errs, err)
	}
	return removed, errs
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
