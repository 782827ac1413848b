package cache

import (
	"context"
	"io/fs"
	"slices"
)

// Usage is what the cache has.
type Usage struct {
	Entries []Entry `json:"entries"` // the one used last first, as many as were asked for
	Count   int     `json:"count"`   // of all entries
	Bytes   int64   `json:"bytes"`   // on disk, of everything
	Max     int64   `json:"maxBytes"`
}

// List returns the entries that were used last.
func (c *Cache) List(ctx context.Context, limit int) (Usage, error) {
	u := Usage{Entries: []Entry{}, Max: c.config.Max}
	for _, dir := range []string{blobsDir, buildsDir, lastDir} {
		if err := walk(ctx, c.path(dir), func(_ string, info fs.FileInfo) { u.Bytes += onDisk(info.Size()) }); err != nil {
			return u, err
		}
	}
	newest := func(a, b Entry) int { return b.Used.Compare(a.Used) }
	err := walk(ctx, c.path(entriesDir), func(path string, info fs.FileInfo) {
		e, _, err := readChecked[Entry](path)
		if err != nil {
			return // the next sweep removes it
		}
		u.Count++
		u.Bytes += onDisk(info.Size())
		e.Used = info.ModTime().UTC()
		if u.Entries = append(u.Entries, *e); len(u.Entries) >= 2*limit {
			slices.SortFunc(u.Entries, newest)
			u.Entries = u.Entries[:limit]
		}
	})
	slices.SortFunc(u.Entries, newest)
	u.Entries = u.Entries[:min(limit, len(u.Entries))]
	return u, err
}
