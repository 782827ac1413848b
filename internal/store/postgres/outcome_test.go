package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
)

// execute runs statements on a connection of their own.
func execute(t *testing.T, url string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

// A COMMIT that was sent and not answered may have stored the events: the error does
// not claim that nothing was stored.
func TestACommitThatHangsMayHaveStored(t *testing.T) {
	url := pgtest.URL(t)
	s := open(t, url)
	execute(t, url, `
		CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$`, `
		CREATE CONSTRAINT TRIGGER hang AFTER INSERT ON project_build_events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hang()`)
	s.timeout = 300 * time.Millisecond
	for _, way := range []string{"locked", "known"} {
		if way == "known" {
			b, err := s.GetBuild(t.Context(), "b")
			if err != nil {
				t.Fatal(err)
			}
			s.known.put(map[string]*store.Row{"b": {Status: b.Status}})
		} else if _, _, err := s.CreateBuild(t.Context(), store.NewBuild{ID: "b"}); err != nil {
			t.Fatal(err)
		}
		_, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: "b", Events: step("k")}})
		if buildcast.CodeOf(err) != buildcast.StoreUnavailable || !strings.Contains(err.Error(), "it may be stored, repeat it with the same key") {
			t.Errorf("%s: %v", way, err)
		}
	}
}

// Events that the server refuses before or at the commit are not stored.
func TestARefusedTransactionHasStoredNothing(t *testing.T) {
	url := pgtest.URL(t)
	s := open(t, url)
	appendTo(t, s, store.Append{BuildID: "known", Events: step("")})
	execute(t, url, `
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '53100'; END $$`, `
		CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON project_build_events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
	for _, id := range []string{"known", "new"} {
		_, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: id, Events: step("k")}})
		if buildcast.CodeOf(err) != buildcast.StoreUnavailable || !strings.Contains(err.Error(), "the database's disk is full; nothing was stored") {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// Data that the server can never store is the caller's mistake, in both kinds of
// append, and the error names the field.
func TestDataThatTheServerRefusesIsTheCallersMistake(t *testing.T) {
	s := open(t, pgtest.URL(t))
	appendTo(t, s, store.Append{BuildID: "known", Events: step("")})
	bad := []buildcast.NewEvent{{Type: "step", Data: []byte("\"\x00\"")}} // no caller gets this past Validate
	for _, id := range []string{"known", "new"} {
		_, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: id, Events: bad}})
		if code, _, field := buildcast.Describe(err); code != buildcast.InvalidArgument || field != "data" {
			t.Errorf("%s: %v, field %q", id, err, field)
		}
	}
}

// A row that cannot be read is a defect: a repeat does not help.
func TestARowThatCannotBeReadIsADefect(t *testing.T) {
	url := pgtest.URL(t)
	s := open(t, url)
	if _, _, err := s.CreateBuild(t.Context(), store.NewBuild{ID: "b", Plan: &buildcast.Plan{Name: "p", Build: "make"}}); err != nil {
		t.Fatal(err)
	}
	execute(t, url, `UPDATE builds SET plan = '[1]'`)
	if _, err := s.GetBuild(t.Context(), "b"); buildcast.CodeOf(err) != buildcast.Internal {
		t.Errorf("an unreadable plan: %v", err)
	}
	execute(t, url, `UPDATE builds SET plan = NULL, status = '[1]'`)
	for name, err := range map[string]error{
		"get": func() error { _, err := s.GetBuild(t.Context(), "b"); return err }(),
		"append": func() error {
			_, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: "b", Events: step("")}})
			return err
		}(),
		"statuses": func() error { _, err := s.Statuses(t.Context(), []string{"b"}); return err }(),
	} {
		if buildcast.CodeOf(err) != buildcast.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
}
