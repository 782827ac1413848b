package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
)

func TestEmitterClosesWithoutALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		e, err := connect(t, s, "refused", "lost", "busy").Emitter(build, EmitterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var accepted sync.Map
		var all sync.WaitGroup
		for worker := range 4 {
			all.Go(func() {
				for i := range 100 {
					typ := fmt.Sprintf("w%d.%d", worker, i)
					if err := e.Emit(ev(typ)); err == nil {
						accepted.Store(typ, true)
					} else if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					<-time.After(time.Millisecond)
				}
			})
		}
		<-time.After(50 * time.Millisecond)
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
		all.Wait()
		types := s.types()
		accepted.Range(func(typ, _ any) bool {
			if !slices.Contains(types, typ.(string)) {
				t.Errorf("%v was accepted and is lost", typ)
			}
			return true
		})
		if n := len(types); n < 100 || n == 400 {
			t.Errorf("%d events: the test did not test", n)
		}
		if err := e.Close(t.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

func TestCloseSaysWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		c := connect(t, newServer(), slices.Repeat([]string{"refused"}, 1000)...)
		c.logger = slog.New(slog.NewTextHandler(&logged, nil))
		e, err := c.Emitter(build, EmitterOptions{MaxEvents: 2})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			err = e.Emit(ev("a"))
		}
		if buildcast.CodeOf(err) != buildcast.Overloaded || e.Dropped() != 1 {
			t.Errorf("%v, %d dropped", err, e.Dropped())
		}
		if err := e.Keep(ev("last")); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err = e.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errRefused) || !strings.HasPrefix(err.Error(), "3 events are not stored") {
			t.Errorf("error %v", err)
		}
		if !strings.Contains(logged.String(), "connection refused") {
			t.Errorf("logged:\n%s", &logged)
		}
		if err := e.Emit(ev("a")); !errors.Is(err, ErrClosed) {
			t.Errorf("error %v", err)
		}
	})
}

func TestAWrongKeyStopsTheEmitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := connect(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusUnauthorized, buildcast.Unauthenticated, "")
		})).Emitter(build, EmitterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_ = e.Emit(ev("a"))
		if err := e.Flush(t.Context()); buildcast.CodeOf(err) != buildcast.Unauthenticated {
			t.Errorf("flush: %v", err)
		}
		if err := e.Emit(ev("b")); buildcast.CodeOf(err) != buildcast.Unauthenticated {
			t.Errorf("emit: %v", err)
		}
		if err := e.Close(t.Context()); buildcast.CodeOf(err) != buildcast.Unauthenticated {
			t.Errorf("close: %v", err)
		}
	})
}
