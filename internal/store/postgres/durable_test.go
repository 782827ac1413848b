package postgres

import (
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
)

// An append that is answered outlives a power failure: its commit waits for the
// disk, also on a connection that has stored moves of cursors, whose commits do not.
func TestAppendsWaitForTheDisk(t *testing.T) {
	s := open(t, pgtest.URL(t))
	e := store.Endpoint{Endpoint: buildcast.Endpoint{ID: "e", URL: "https://a.example", Enabled: true, CreatedAt: buildcast.Now(), UpdatedAt: buildcast.Now()}, Sealed: []byte("p{}")}
	if _, err := s.SaveEndpoint(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: "b", Events: []buildcast.NewEvent{{Type: "x", Data: []byte("{}")}}}}); err != nil {
		t.Fatal(err)
	}
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
	conns := s.pool.AcquireAllIdle(t.Context())
	if len(conns) == 0 {
		t.Fatal("no connection is idle")
	}
	for _, conn := range conns {
		var mode string
		if err := conn.QueryRow(t.Context(), `SHOW synchronous_commit`).Scan(&mode); err != nil || mode != "on" {
			t.Errorf("commits are made with synchronous_commit = %s, want on: %v", mode, err)
		}
		conn.Release()
	}
}
