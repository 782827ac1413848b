package sqlite

import "github.com/buildcast/buildcast/internal/store"

// maxRows bounds how many builds' rows are remembered, about 1 KB each.
const maxRows = 4096

// rows caches builds' rows as they are stored. Only this process writes them, so an
// append need not read a row that the previous one wrote. Other changes of a row (its
// lease, a deletion, a cut) hold Store.changing and remove the row from the cache.
type rows map[string]store.Row

// take removes the row from the cache and returns it: put adds it again after the
// commit.
func (r rows) take(id string) *store.Row {
	row, ok := r[id]
	if !ok {
		return nil
	}
	delete(r, id)
	return &row
}

func (r rows) put(stored map[string]*store.Row) {
	for id, row := range stored {
		r[id] = *row
	}
	for id := range r {
		if len(r) <= maxRows {
			break
		}
		delete(r, id) // any one
	}
}
