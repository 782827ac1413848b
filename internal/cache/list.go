package cache

import (
	"context"
	"io/fs"
	"slices"

	"github.com/buildcast/buildcast"
)

// List returns the entries that were used last. Packages are counted, but not listed:
// there are many, and they have no names.
func (c *Cache) List(ctx context.Context, limit int) (buildcast.CacheUsage, error) {
	u := buildcast.CacheUsage{Entries: []buildcast.CacheEntry{}, MaxBytes: c.config.Max}
	for _, dir := range []string{blobsDir, buildsDir, lastDir} {
		if err := walk(ctx, c.path(dir), func(_ string, info fs.FileInfo) { u.Bytes += onDisk(info.Size()) }); err != nil {
			return u, err
		}
	}
	newest := func(a, b buildcast.CacheEntry) int { return b.UsedAt.Std().Compare(a.UsedAt.Std()) }
	err := walk(ctx, c.path(entriesDir), func(path string, info fs.FileInfo) {
		e, _, err := readChecked[Entry](path)
		if err != nil {
			return // the next sweep removes it
		}
		u.Count++
		u.Bytes += onDisk(info.Size())
		if e.Kind == KindPackage {
			return
		}
		e.Used = info.ModTime()
		if u.Entries = append(u.Entries, e.listed()); len(u.Entries) >= 2*limit {
			slices.SortFunc(u.Entries, newest)
			u.Entries = u.Entries[:limit]
		}
	})
	slices.SortFunc(u.Entries, newest)
	u.Entries = u.Entries[:min(limit, len(u.Entries))]
	return u, err
}

func (e *Entry) listed() buildcast.CacheEntry {
	return buildcast.CacheEntry{
		Kind: e.Kind, Name: e.Name, Project: e.Scope.Project, Planned: e.Scope.Planned, BuildID: e.BuildID,
		DurationMS: e.DurationMS, Bytes: e.Size(), CreatedAt: buildcast.TimeOf(e.Created), UsedAt: buildcast.TimeOf(e.Used),
	}
}
