package postgres

import (
	"context"
	"testing"

	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store/storetest"
)

// BenchmarkAppend compares appends with the minimum that storing an event costs: one
// INSERT of the same durability, over the same pool.
func BenchmarkAppend(b *testing.B) {
	s := open(b, pgtest.URL(b))
	if _, err := s.pool.Exec(b.Context(), `
		CREATE TABLE bare (id bigserial PRIMARY KEY, build_id varchar(26) NOT NULL, event_type varchar(50) NOT NULL, event_data jsonb NOT NULL,
			created_at timestamptz NOT NULL DEFAULT now());
		CREATE INDEX bare_build ON bare (build_id, id)`); err != nil {
		b.Fatal(err)
	}
	storetest.Bench(b, s, func(ctx context.Context, build, typ, data string) error {
		_, err := s.pool.Exec(ctx, `INSERT INTO bare (build_id, event_type, event_data) VALUES ($1, $2, $3)`, build, typ, data)
		return err
	})
}
