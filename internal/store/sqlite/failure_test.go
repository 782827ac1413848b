package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// appendOne appends one event of about 4 KB and returns its id.
func appendOne(t *testing.T, s *Store, build string) (int64, error) {
	t.Helper()
	e := buildcast.NewEvent{Type: "step", Data: json.RawMessage(`"` + strings.Repeat("x", 4000) + `"`)}
	answers, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: build, Events: []buildcast.NewEvent{e}}})
	if err != nil {
		return 0, err
	}
	return answers[0].Events[0].ID, nil
}

// limit lets the file grow to this many pages. Beyond them SQLite returns the error of
// a full disk.
func limit(t *testing.T, s *Store, pages int) {
	t.Helper()
	var got int
	if err := s.write.QueryRowContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages)).Scan(&got); err != nil || got != pages {
		t.Fatalf("limited to %d pages, want %d: %v", got, pages, err)
	}
}

func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.db")
	s := open(t, path)
	limit(t, s, 60)
	var acked int64
	for {
		id, err := appendOne(t, s, "b")
		if err != nil {
			wantFull(t, err)
			break
		}
		if acked++; id != acked {
			t.Fatalf("event %d after %d", id, acked-1)
		}
	}
	if acked == 0 {
		t.Fatal("nothing was stored before the disk was full")
	}
	// The disk stays full for every kind of write, and no part of a write is stored.
	plan := &buildcast.Plan{Name: "p", Build: strings.Repeat("x", 50_000)}
	_, _, err := s.CreateBuild(t.Context(), store.NewBuild{ID: "large", Plan: plan})
	wantFull(t, err)
	many := make([]buildcast.NewEvent, 500)
	for i := range many {
		many[i] = buildcast.NewEvent{Type: "step", Data: json.RawMessage(`{"message":"a line of output, and some more of it"}`)}
	}
	_, err = s.AppendEvents(t.Context(), []store.Append{{BuildID: "other", Events: many}, {BuildID: "b", Events: many}})
	wantFull(t, err)
	_, err = s.GetBuild(t.Context(), "large")
	wantCode(t, err, buildcast.NotFound)
	_, err = s.GetBuild(t.Context(), "other")
	wantCode(t, err, buildcast.NotFound)
	wantLog(t, s, "b", acked)
	wantFull(t, s.Ping(t.Context()))

	limit(t, s, 100_000)
	if id, err := appendOne(t, s, "b"); err != nil || id != acked+1 {
		t.Errorf("with space again: event %d after %d, %v", id, acked, err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantLog(t, open(t, path), "b", acked+1)
}

func wantFull(t *testing.T, err error) {
	t.Helper()
	e, ok := errors.AsType[*buildcast.Error](err)
	if !ok || e.Code != buildcast.StoreUnavailable || !strings.Contains(e.Message, "the disk is full") || e.RetryAfter <= 0 {
		t.Fatalf("error %v, want StoreUnavailable, the disk is full", err)
	}
}

func wantCode(t *testing.T, err error, code buildcast.Code) {
	t.Helper()
	if buildcast.CodeOf(err) != code {
		t.Errorf("error %v, want code %q", err, code)
	}
}

// wantLog fails unless the log has the events 1 to last and the status ends there.
func wantLog(t *testing.T, s *Store, build string, last int64) {
	t.Helper()
	events, err := s.ReadEvents(t.Context(), build, 0, 1e6, 1e9)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(events)) != last || events[last-1].ID != last {
		t.Errorf("%d events, want %d", len(events), last)
	}
	b, err := s.GetBuild(t.Context(), build)
	if err != nil || b.Status.LastEventID != last {
		t.Errorf("status at event %d, want %d; %v", b.Status.LastEventID, last, err)
	}
}

// openError returns the error of opening the file, which must fail.
func openError(t *testing.T, path string) string {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err == nil {
		s.Close()
		t.Fatalf("%s was opened", path)
	}
	return err.Error()
}

func wantWords(t *testing.T, said string, words ...string) {
	t.Helper()
	for _, want := range words {
		if !strings.Contains(said, want) {
			t.Errorf("the error is %q, without %q", said, want)
		}
	}
}

// Root ignores permissions, so files stand in the way here: root cannot write either.
func TestDataDirectoryThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantWords(t, openError(t, filepath.Join(file, "b.db")), "cannot make the data directory "+file, "--data-dir")
	wantWords(t, openError(t, filepath.Join(file, "deeper", "b.db")), "cannot make the data directory", "--data-dir")

	if err := os.Mkdir(filepath.Join(dir, "b.db.lock"), 0o700); err != nil {
		t.Fatal(err)
	}
	wantWords(t, openError(t, filepath.Join(dir, "b.db")), "cannot write in the data directory", "--data-dir")

	if err := os.Mkdir(filepath.Join(dir, "c.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	wantWords(t, openError(t, filepath.Join(dir, "c.db")), "cannot open the database "+filepath.Join(dir, "c.db"))
}

func TestMissingDirectoriesAreMade(t *testing.T) {
	// No part of the path may be read as a part of a URL.
	path := filepath.Join(t.TempDir(), "a dir", "100%25?mode=memory#x&é", "b.db")
	s := open(t, path)
	if _, err := appendOne(t, s, "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info.Mode(), err)
	}
}

func TestFileThatIsNoDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("This is a letter. ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first attempt releases the lock
		wantWords(t, openError(t, path), "cannot open the database "+path, "not a database")
	}
}

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.db")
	s := open(t, path)
	for range 50 {
		if _, err := appendOne(t, s, "b"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(content) / 2; i < len(content); i++ {
		content[i] = 0xA5
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	_, err = s.ReadEvents(t.Context(), "b", 0, 1000, 1e9)
	wantCode(t, err, buildcast.StoreUnavailable)
	wantWords(t, err.Error(), "the database file is damaged")
	_, err = appendOne(t, s, "b")
	wantCode(t, err, buildcast.StoreUnavailable)
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.db")
	s := open(t, path)
	if _, err := s.write.ExecContext(t.Context(), `INSERT INTO schema_migrations (version) VALUES (99)`); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantWords(t, openError(t, path), "schema version 99", "run the newer buildcast")
}

func TestMigrationsRunOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.db")
	for want := int64(1); want < 4; want++ {
		s := open(t, path)
		if id, err := appendOne(t, s, "b"); err != nil || id != want {
			t.Errorf("event %d, want %d, %v", id, want, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
