package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
)

// A database of the first version keeps its builds, and lists them by status.
func TestUpgrade(t *testing.T) {
	url := pgtest.URL(t)
	all, err := store.Migrations(migrations)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	const times = `"createdAt":"2026-11-23T07:14:31.123Z","updatedAt":"2026-11-23T07:14:31.123Z"`
	for _, sql := range []string{
		all[0].SQL,
		`CREATE TABLE schema_migrations (version integer PRIMARY KEY)`, `INSERT INTO schema_migrations VALUES (1)`,
		`INSERT INTO builds (id, status, last_event_id, created_at, updated_at, finished_at) VALUES
			('failed', '{"buildId":"failed","status":"failed","lastEventId":1,` + times + `}', 1, now(), now(), now()),
			('planned', '{"buildId":"planned","status":"executing",` + times + `}', 0, now(), now(), NULL),
			('queued', '{"buildId":"queued","status":"queued",` + times + `}', 0, now(), now(), NULL)`,
		`UPDATE builds SET plan = '{"name":"site","build":"make"}' WHERE id = 'planned'`,
		`INSERT INTO project_build_events (build_id, id, event_type, event_data, progress, created_at) VALUES
			('failed', 1, 'build_failed', '{"z": 1, "a": 1e3}', 0, now())`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, url)
	for _, phase := range []buildcast.Phase{buildcast.Failed, buildcast.Queued} {
		page, err := s.ListBuilds(t.Context(), store.Filter{Phase: phase, Limit: 10})
		if err != nil || len(page.Statuses) != 1 || page.Statuses[0].BuildID != string(phase) || page.Statuses[0].FirstEventID != 1 {
			t.Errorf("%s: %+v, %v", phase, page.Statuses, err)
		}
	}
	if events, err := s.ReadEvents(t.Context(), "failed", 0, 10, 1<<20); err != nil || len(events) != 1 || string(events[0].Data) != `{"a": 1000, "z": 1}` {
		t.Errorf("an event that was jsonb: %+v, %v", events, err)
	}
	if leases, err := s.ClaimBuilds(t.Context(), "one", time.Hour, 10, nil); err != nil || len(leases) != 1 || leases[0].BuildID != "planned" {
		t.Errorf("claimed %+v, %v", leases, err)
	}
	if b, err := s.GetBuild(t.Context(), "planned"); err != nil || b.Plan == nil || b.Options != (buildcast.Options{}) {
		t.Errorf("%+v, %v", b, err)
	}
	wantID(t, appendTo(t, s, store.Append{BuildID: "queued", Events: finish()})[0], 1)
	if page, err := s.ListBuilds(t.Context(), store.Filter{Phase: buildcast.Completed, Limit: 10}); err != nil || len(page.Statuses) != 1 {
		t.Errorf("completed: %+v, %v", page.Statuses, err)
	}
}
