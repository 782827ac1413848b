package sqlite

import "github.com/buildcast/buildcast/internal/store"

// maxRows bounds how many builds' rows are remembered, about 1 KB each.
const maxRows = 4096

// rows are builds' rows as they are stored: this process alone writes them, so
// an append need not read again what the last one wrote. Whoever changes a row
// otherwise (its lease, a deletion, a cut) holds changing until it is forgotten.
type rows map[string]store.Row

// take returns the row, and forgets it until it is certain what becomes of it.
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
