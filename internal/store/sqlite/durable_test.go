package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// An append that is answered outlives a power failure: its commit waits for the
// disk, also after moves of cursors, whose commits do not. No test can cut the
// power, so this one asks the connection that appends use.
func TestAppendsWaitForTheDisk(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "b.db"))
	full := func(when string) {
		t.Helper()
		const fullSync = 2
		var mode int
		if err := s.write.QueryRowContext(t.Context(), `PRAGMA synchronous`).Scan(&mode); err != nil || mode != fullSync {
			t.Errorf("%s: commits are made with synchronous = %d, want %d: %v", when, mode, fullSync, err)
		}
	}
	full("at the start")
	e := store.Endpoint{Endpoint: buildcast.Endpoint{ID: "e", URL: "https://a.example", Enabled: true, CreatedAt: buildcast.Now(), UpdatedAt: buildcast.Now()}, Sealed: []byte("p{}")}
	if _, err := s.SaveEndpoint(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: "b", Events: []buildcast.NewEvent{{Type: "x", Data: []byte("{}")}}}}); err != nil {
		t.Fatal(err)
	}
	full("after an append")
	now := time.Now().Add(time.Minute)
	cursors, err := s.ClaimCursors(t.Context(), "n", "e", nil, now, now.Add(time.Hour), 1)
	if err != nil || len(cursors) != 1 {
		t.Fatal(cursors, err)
	}
	c := cursors[0]
	c.Next++
	if _, err := s.MoveCursors(t.Context(), "n", []store.Move{{Cursor: c}}); err != nil {
		t.Fatal(err)
	}
	full("after a move")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		_, _ = s.MoveCursors(gone, "n", []store.Move{{Cursor: c}})
		full("after a move that was cancelled")
	}
}

// A commit that fails has stored nothing, and its append is told. The next one
// gets the id that this one would have had.
func TestAnAppendWhoseCommitFailsIsTold(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "b.db"))
	exec := func(sql string) {
		t.Helper()
		if _, err := s.write.ExecContext(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	// A foreign key that is checked at the commit, and is violated by each event.
	exec(`PRAGMA foreign_keys = ON`)
	exec(`CREATE TABLE parent (id INTEGER PRIMARY KEY)`)
	exec(`CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)`)
	exec(`CREATE TRIGGER orphan AFTER INSERT ON project_build_events BEGIN INSERT INTO child VALUES (1); END`)
	one := []store.Append{{BuildID: "b", Events: []buildcast.NewEvent{{Type: "x", Data: []byte("{}")}}}}
	if a, err := s.AppendEvents(t.Context(), one); err == nil {
		t.Errorf("answered with %+v", a)
	}
	if events, err := s.ReadEvents(t.Context(), "b", 0, 10, 1000); err != nil || len(events) != 0 {
		t.Errorf("%v are stored, %v", events, err)
	}
	exec(`DROP TRIGGER orphan`)
	a, err := s.AppendEvents(t.Context(), one)
	if err != nil || a[0].Events[0].ID != 1 || a[0].Status.LastEventID != 1 {
		t.Errorf("the next append is answered with %+v, %v", a, err)
	}
}
