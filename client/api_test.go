package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/httpapi"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/store/sqlite"
)

// serveAPI serves buildcast's own API, so that client and server agree.
func serveAPI(t testing.TB) *Client {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "buildcast.db"))
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	hub := live.NewHub(store)
	log := eventlog.New(store, store, logger)
	log.Subscribe(hub.Changed)
	handler := httpapi.New(httpapi.Config{
		Log: log, Builds: store, Events: store, Hub: hub, Ping: store.Ping, Logger: logger,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { _ = log.Run(ctx) })
	parts.Go(func() { _ = hub.Run(ctx) })
	s := httptest.NewServer(handler)
	c, err := New(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.CloseIdleConnections()
		s.Close()
		cancel()
		parts.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// A build is deleted and its id used again: who follows from the start sees the new
// log only, who stands inside the old one is told what was missed.
func TestFollowGoesOnAfterACut(t *testing.T) {
	c := serveAPI(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, types := range [][]string{{"a", "b", buildcast.BuildCompleted}, {"c", "d", buildcast.BuildCompleted}} {
		if status, err := c.Status(ctx, build); err == nil && status.Phase.Terminal() {
			if err := c.Delete(ctx, build); err != nil {
				t.Fatal(err)
			}
		}
		for _, typ := range types {
			if _, err := c.Append(ctx, build, ev(typ)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		start buildcast.Start
		first int64
		gap   string
	}{
		"from the start":       {buildcast.Start{}, 4, ""},
		"inside the old log":   {buildcast.Start{After: 1}, 4, "2-3"},
		"after the old log":    {buildcast.Start{After: 3}, 4, ""},
		"with the last events": {buildcast.Start{Tail: 2}, 5, ""},
		"with many last ones":  {buildcast.Start{Tail: 100}, 4, ""},
		"with the latest":      {buildcast.Start{Latest: true}, 0, ""},
	} {
		first, last, gaps := int64(0), int64(6), ""
		o := FollowOptions{Start: test.start, Gap: func(from, to int64) { gaps += fmt.Sprintf("%d-%d", from, to) }}
		for e, err := range c.FollowFrom(ctx, build, o) {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if first == 0 {
				first = e.ID
			}
			last = e.ID
		}
		if first != test.first || last != 6 || gaps != test.gap {
			t.Errorf("%s: events %d to %d, missed %q", name, first, last, gaps)
		}
	}
	if _, err := c.Events(ctx, build, 1, 0, 0); buildcast.CodeOf(err) != buildcast.CursorGone {
		t.Errorf("a poll inside the old log: %v", err)
	} else if at, ok := errors.AsType[*buildcast.CursorError](err); !ok || at.FirstEventID != 4 || at.LastEventID != 6 {
		t.Errorf("it does not say where the log begins: %#v", err)
	}
}

// One build's life on the real API.
func TestOverTheRealAPI(t *testing.T) {
	c := serveAPI(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	got := make(chan []string, 1)
	go func() { got <- followFrom(t, c, 0, -1) }() // before the build is there
	asked := CreateBuild{ID: build, Project: "web", IdempotencyKey: "i1"}
	for range 2 {
		if b, err := c.CreateBuild(ctx, asked); err != nil || b.ID != build || b.Status.Phase != buildcast.Queued || !b.External() {
			t.Fatalf("created %+v, %v", b, err)
		}
	}
	if _, err := c.CreateBuild(ctx, CreateBuild{ID: build, Project: "other"}); buildcast.CodeOf(err) != buildcast.Conflict {
		t.Errorf("created otherwise: %v", err)
	}
	e, err := c.Emitter(build, EmitterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2500 {
		if err := e.Emit(buildcast.NewEvent{Type: fmt.Sprintf("e%d", i), Data: []byte(`{"line":"<&>"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if ids, err := c.Append(ctx, build, buildcast.NewEvent{Type: "a", Key: "k"}, buildcast.NewEvent{Type: "b", Key: "k"}); err != nil || fmt.Sprint(ids) != "[2501 2501]" {
		t.Errorf("appended %v, %v", ids, err)
	}
	s, err := c.AppendStream(ctx, build, strings.NewReader(strings.Repeat("{\"type\":\"line\"}\n", 1500)+"{\"type\":\"Bad\"}\n"))
	if buildcast.CodeOf(err) != buildcast.InvalidArgument || s != (Streamed{Count: 1500, LastEventID: 4001}) {
		t.Errorf("streamed %+v, %v", s, err)
	}
	if err := c.Delete(ctx, build); buildcast.CodeOf(err) != buildcast.NotFinished {
		t.Errorf("deleted: %v", err)
	}
	for range 2 {
		if s, err := c.Cancel(ctx, build); err != nil || s.Phase != buildcast.Cancelled || s.LastEventID != 4002 {
			t.Errorf("cancelled %+v, %v", s, err)
		}
	}
	seen := <-got
	if len(seen) != 4002 || seen[0] != "e0" || seen[2499] != "e2499" || seen[4001] != buildcast.BuildCancelled {
		t.Errorf("followed %d events", len(seen))
	}
	if rest := followFrom(t, c, 4000, -1); len(rest) != 2 {
		t.Errorf("from inside a finished build: %v", rest)
	}
	checkEnd(ctx, t, c)
}

func checkEnd(ctx context.Context, t *testing.T, c *Client) {
	t.Helper()
	p, err := c.Events(ctx, build, 4002, 0, time.Minute)
	if err != nil || len(p.Events) != 0 || p.LastEventID != 4002 {
		t.Errorf("polled %+v, %v", p, err)
	}
	if _, err := c.Events(ctx, build, 9999, 0, 0); buildcast.CodeOf(err) != buildcast.CursorAhead {
		t.Errorf("ahead: %v", err)
	}
	page, err := c.Builds(ctx, Filter{Phase: buildcast.Cancelled, Project: "web", Limit: 1})
	if err != nil || len(page.Builds) != 1 || page.Builds[0].LastEventID != 4002 {
		t.Errorf("listed %+v, %v", page, err)
	}
	if err := c.Delete(ctx, build); err != nil {
		t.Error(err)
	}
	if _, err := c.Status(ctx, build); buildcast.CodeOf(err) != buildcast.NotFound {
		t.Errorf("deleted, and: %v", err)
	}
}

// The API's own streams are what Follow reads.
func TestStreamsOfTheRealAPI(t *testing.T) {
	c := serveAPI(t)
	if _, err := c.Append(t.Context(), build, ev("a"), ev("b"), ev(buildcast.BuildCompleted)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := c.stream(ctx, build, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var got []int64
	for !errors.Is(err, errOver) {
		var events []buildcast.Event
		if events, err = s.next(); err != nil && !errors.Is(err, errOver) {
			t.Fatal(err)
		}
		for _, e := range events {
			got = append(got, e.ID)
		}
	}
	if fmt.Sprint(got) != "[2 3]" || s.parser.retry == 0 {
		t.Errorf("got %v, and retry %v", got, s.parser.retry)
	}
	if _, err := c.stream(ctx, build, 3); !errors.Is(err, errOver) {
		t.Errorf("from the end: %v", err)
	}
	if _, err := c.stream(ctx, build, 4); buildcast.CodeOf(err) != buildcast.CursorAhead {
		t.Errorf("ahead: %v", err)
	}
}

// What one emitter takes to the log, over HTTP and SQLite.
func BenchmarkEmitter(b *testing.B) {
	e, err := serveAPI(b).Emitter(build, EmitterOptions{})
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		for buildcast.Temporary(e.Emit(buildcast.NewEvent{Type: "line", Data: []byte(`{"line":"compiling package 17 of 90"}`)})) {
			if err := e.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		n++
	}
	if err := e.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}
