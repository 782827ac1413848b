package sqlite

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// A file of the first version keeps its builds, and lists them by status.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.db")
	all, err := store.Migrations(migrations)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		all[0].SQL,
		`CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY)`, `INSERT INTO schema_migrations VALUES (1)`,
		`INSERT INTO builds (id, status, last_event_id, created_at, updated_at, finished_at) VALUES
			('failed', '{"buildId":"failed","status":"failed","lastEventId":1,"createdAt":"2026-11-23T07:14:31.123Z","updatedAt":"2026-11-23T07:14:31.123Z"}', 1, 1, 1, 1),
			('planned', '{"buildId":"planned","status":"executing","createdAt":"2026-11-23T07:14:31.123Z","updatedAt":"2026-11-23T07:14:31.123Z"}', 0, 1, 1, NULL),
			('queued', '{"buildId":"queued","status":"queued","createdAt":"2026-11-23T07:14:31.123Z","updatedAt":"2026-11-23T07:14:31.123Z"}', 0, 1, 1, NULL)`,
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.ExecContext(t.Context(), `UPDATE builds SET plan = '{"name":"site","build":"make"}' WHERE id = 'planned'`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	for _, phase := range []buildcast.Phase{buildcast.Failed, buildcast.Queued} {
		page, err := s.ListBuilds(t.Context(), store.Filter{Phase: phase, Limit: 10})
		if err != nil || len(page.Statuses) != 1 || page.Statuses[0].BuildID != string(phase) || page.Statuses[0].FirstEventID != 1 {
			t.Errorf("%s: %+v, %v", phase, page.Statuses, err)
		}
	}
	if leases, err := s.ClaimBuilds(t.Context(), "one", time.Hour, 10, nil); err != nil || len(leases) != 1 || leases[0].BuildID != "planned" {
		t.Errorf("claimed %+v, %v", leases, err)
	}
	if b, err := s.GetBuild(t.Context(), "planned"); err != nil || b.Plan == nil || b.Options != (buildcast.Options{}) {
		t.Errorf("%+v, %v", b, err)
	}
	if id, err := appendOne(t, s, "queued"); err != nil || id != 1 {
		t.Errorf("event %d, %v", id, err)
	}
}

// A claim holds the one writing connection, so it must not read external builds that
// never finish.
func TestClaimReadsClaimableBuildsOnly(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "b.db"))
	rows, err := s.write.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+claimSQL, "owner", 0, 0, "[]", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		plan.WriteString(step + "\n")
	}
	if err := rows.Err(); err != nil || !strings.Contains(plan.String(), "SCAN builds USING INDEX builds_claimable") {
		t.Errorf("%v; the plan:\n%s", err, plan.String())
	}
}
