package sqlite

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/buildcast/buildcast/internal/store/storetest"
)

// BenchmarkAppend compares appends with the minimum that storing an event costs: one
// INSERT of the same durability, on the same connection.
func BenchmarkAppend(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "b.db"))
	if _, err := s.write.ExecContext(b.Context(), `
		CREATE TABLE bare (id INTEGER PRIMARY KEY, build_id TEXT NOT NULL, event_type TEXT NOT NULL, event_data TEXT NOT NULL,
			created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
		CREATE INDEX bare_build ON bare (build_id, id)`); err != nil {
		b.Fatal(err)
	}
	storetest.Bench(b, s, func(ctx context.Context, build, typ, data string) error {
		_, err := s.write.ExecContext(ctx, `INSERT INTO bare (build_id, event_type, event_data) VALUES (?, ?, ?)`, build, typ, data)
		return err
	})
}
