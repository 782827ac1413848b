package store

import (
	"errors"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/buildcast/buildcast"
)

func files(names ...string) fstest.MapFS {
	fs := fstest.MapFS{}
	for _, name := range names {
		fs[name] = &fstest.MapFile{Data: []byte("-- " + name)}
	}
	return fs
}

func TestMigrations(t *testing.T) {
	all, err := Migrations(files("migrations/0002_b.sql", "migrations/0001_a.sql", "migrations/0003_c.sql", "migrations/readme.md"))
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	for i, m := range all {
		if want := []string{"-- migrations/0001_a.sql", "-- migrations/0002_b.sql", "-- migrations/0003_c.sql"}[i]; m.Version != i+1 || m.SQL != want {
			t.Errorf("%d: %+v", i+1, m)
		}
	}
	for have, want := range []int{3, 2, 1, 0} {
		if todo, err := all.After(have); err != nil || len(todo) != want || want > 0 && todo[0].Version != have+1 {
			t.Errorf("at version %d: %+v, %v", have, todo, err)
		}
	}
	if _, err := all.After(4); err == nil {
		t.Error("a database ahead of the binary is accepted")
	}
}

func TestMigrationsThatDoNotCount(t *testing.T) {
	for _, fs := range []fstest.MapFS{
		files("migrations/0002_b.sql"),
		files("migrations/0001_a.sql", "migrations/0003_c.sql"),
		files("migrations/0001_a.sql", "migrations/0001_b.sql"),
		files("migrations/first.sql"),
	} {
		if all, err := Migrations(fs); err == nil {
			t.Errorf("%v is accepted as %+v", fs, all)
		}
	}
}

func TestPlace(t *testing.T) {
	for _, p := range []Place{{0, "a"}, {1_700_000_000_000, "01JD-x_"}, {-1, "A"}, {1<<63 - 1, "b"}} {
		if back, err := ParsePlace(p.String()); err != nil || back != p {
			t.Errorf("%+v came back as %+v, %v", p, back, err)
		}
	}
}

func FuzzParsePlace(f *testing.F) {
	for _, s := range []string{"", "MTIz", Place{1, "a"}.String(), Place{1, "no id"}.String(), Place{ID: "a"}.String() + "=", "KzEgYQ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePlace(s)
		if err != nil {
			if e, ok := errors.AsType[*buildcast.Error](err); !ok || e.Code != buildcast.InvalidArgument || e.Field != "before" {
				t.Errorf("error %v", err)
			}
			return
		}
		if err := buildcast.ValidateBuildID(p.ID); err != nil {
			t.Errorf("%q has the id %q", s, p.ID)
		}
		if back, err := ParsePlace(p.String()); err != nil || back != p {
			t.Errorf("%+v came back as %+v, %v", p, back, err)
		}
	})
}

func TestClaimedOldestFirst(t *testing.T) {
	var c Claimed
	at := time.UnixMilli(1000)
	c.Add(Lease{BuildID: "c"}, at.Add(time.Second))
	c.Add(Lease{BuildID: "b"}, at)
	c.Add(Lease{BuildID: "B"}, at)
	c.Add(Lease{BuildID: "a"}, at.Add(time.Minute))
	var ids []string
	for _, l := range c.OldestFirst() {
		ids = append(ids, l.BuildID)
	}
	if want := []string{"B", "b", "c", "a"}; !slices.Equal(ids, want) {
		t.Errorf("%v, want %v", ids, want)
	}
}

func TestMatches(t *testing.T) {
	plan := func() *buildcast.Plan { return &buildcast.Plan{Name: "p", Build: "make"} }
	there := buildcast.Build{ID: "b", Project: "p", Plan: plan()}
	if err := (NewBuild{ID: "b", Project: "p", Plan: plan(), IdempotencyKey: "k"}).Matches(there); err != nil {
		t.Error(err)
	}
	for field, n := range map[string]NewBuild{"id": {ID: "b", Project: "q", Plan: plan()}, "Idempotency-Key": {ID: "c", Project: "p"}} {
		if e, ok := errors.AsType[*buildcast.Error](n.Matches(there)); !ok || e.Code != buildcast.Conflict || e.Field != field {
			t.Errorf("%s: %v", field, e)
		}
	}
}

func TestUnavailable(t *testing.T) {
	cause := errors.New("cause")
	err := Unavailable(cause, "the disk is full")
	if e, ok := errors.AsType[*buildcast.Error](err); !ok || e.Code != buildcast.StoreUnavailable || e.RetryAfter <= 0 || !errors.Is(err, cause) || !buildcast.Temporary(err) {
		t.Errorf("%+v", err)
	}
}
