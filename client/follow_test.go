package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/buildcast/buildcast"
)

// script is a server whose answers a test writes down, one poll after the other.
type script struct {
	polls    []func() (Poll, error)
	status   func() (buildcast.Status, error)
	asked    []int64     // the cursor of each poll
	at       []time.Time // of each poll
	waits    []time.Duration
	statuses int
}

// follow runs a follower over the script, to its end or that of the script.
func (s *script) follow(t *testing.T, after int64) (ids []int64, err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f := newFollower(build, after, slog.New(slog.DiscardHandler))
	f.poll = func(_ context.Context, cursor int64, wait time.Duration) (Poll, error) {
		s.asked, s.at, s.waits = append(s.asked, cursor), append(s.at, time.Now()), append(s.waits, wait)
		if len(s.polls) == 0 {
			cancel()
			return Poll{}, errScriptEnds
		}
		next := s.polls[0]
		s.polls = s.polls[1:]
		return next()
	}
	f.ask = func(context.Context) (buildcast.Status, error) {
		s.statuses++
		return s.status()
	}
	f.run(ctx, func(e buildcast.Event, e2 error) bool {
		if err = e2; err == nil {
			ids = append(ids, e.ID)
		}
		return true
	})
	return ids, err
}

var errScriptEnds = errors.New("the script ends")

func stored(id int64, typ string) buildcast.Event {
	return buildcast.Event{ID: id, BuildID: build, Type: typ}
}

// gives is an answer with events of these ids; the last of them ends the build where done.
func gives(more, done bool, ids ...int64) func() (Poll, error) {
	var p Poll
	for i, id := range ids {
		typ := "step"
		if done && i == len(ids)-1 {
			typ = buildcast.BuildCompleted
		}
		p.Events = append(p.Events, stored(id, typ))
		p.LastEventID = id
	}
	p.HasMore = more
	return func() (Poll, error) { return p, nil }
}

func fails(err error) func() (Poll, error) { return func() (Poll, error) { return Poll{}, err } }

func is(phase buildcast.Phase, last int64) func() (buildcast.Status, error) {
	return func() (buildcast.Status, error) { return buildcast.Status{Phase: phase, LastEventID: last}, nil }
}

func noStatus(code buildcast.Code) func() (buildcast.Status, error) {
	return func() (buildcast.Status, error) { return buildcast.Status{}, buildcast.Errorf(code, "%s", code) }
}

type polls = []func() (Poll, error)

func TestFollow(t *testing.T) {
	overloaded := buildcast.Errorf(buildcast.Overloaded, "full").After(3 * time.Second)
	for _, test := range []struct {
		name   string
		after  int64
		polls  polls
		status func() (buildcast.Status, error)
		ids    []int64
		asked  []int64
		code   buildcast.Code // of the error; "": it ends without one
	}{
		{name: "to the end", polls: polls{gives(false, false, 1, 2), gives(false, true, 3)}, ids: []int64{1, 2, 3}, asked: []int64{0, 2}},
		{name: "events after the terminal one", polls: polls{gives(true, true, 1, 2), gives(false, false, 3, 4)}, ids: []int64{1, 2, 3, 4}, asked: []int64{0, 2}},
		{name: "a failed task that is tried again is not the end", polls: polls{func() (Poll, error) {
			e := stored(1, buildcast.TaskFailed)
			e.Data = []byte(`{"willRetry":true}`)
			return Poll{Events: []buildcast.Event{e}, LastEventID: 1}, nil
		}, gives(false, true, 2)}, ids: []int64{1, 2}, asked: []int64{0, 1}},
		{name: "an answer twice", polls: polls{gives(false, false, 1, 2), gives(false, false, 1, 2, 3), gives(false, true, 4)}, ids: []int64{1, 2, 3, 4}, asked: []int64{0, 2, 3}},
		{name: "a double inside an answer", polls: polls{gives(false, true, 1, 1, 2)}, ids: []int64{1, 2}, asked: []int64{0}},
		{name: "an old answer", polls: polls{gives(false, false, 1, 2), gives(false, false, 1), gives(false, true, 3)}, ids: []int64{1, 2, 3}, asked: []int64{0, 2, 2}},
		{name: "a gap at first", polls: polls{gives(false, true, 2, 3), gives(false, true, 1, 2, 3)}, ids: []int64{1, 2, 3}, asked: []int64{0, 0}},
		{name: "a gap in the middle", polls: polls{gives(false, true, 1, 2, 4), gives(false, true, 3, 4)}, ids: []int64{1, 2, 3, 4}, asked: []int64{0, 2}},
		{name: "the wrong order", polls: polls{gives(false, false, 2, 1), gives(false, true, 1, 2)}, ids: []int64{1, 2}, asked: []int64{0, 0}},
		{name: "another build's events", polls: polls{func() (Poll, error) {
			return Poll{Events: []buildcast.Event{{ID: 1, BuildID: "b2"}}, LastEventID: 1}, nil
		}, gives(false, true, 1)}, ids: []int64{1}, asked: []int64{0, 0}},
		{name: "more, and nothing", polls: polls{gives(true, false), gives(false, true, 1)}, ids: []int64{1}, asked: []int64{0, 0}},
		{name: "interrupted", polls: polls{gives(false, false, 1), fails(errUnreachable), fails(overloaded), fails(buildcast.Errorf(buildcast.Internal, "")), gives(false, true, 2)}, ids: []int64{1, 2}, asked: []int64{0, 1, 1, 1, 1}},

		{name: "after the end of a finished build", after: 5, polls: polls{gives(false, false)}, status: is(buildcast.Failed, 5), asked: []int64{5}},
		{name: "beside the end of a finished build", after: 3, polls: polls{gives(false, false, 4, 5)}, status: is(buildcast.Failed, 5), ids: []int64{4, 5}, asked: []int64{3}},
		{name: "a finished build grows meanwhile", after: 3, polls: polls{gives(false, false, 4), gives(false, false, 5), gives(false, false, 6)}, status: is(buildcast.Failed, 6), ids: []int64{4, 5, 6}, asked: []int64{3, 4, 5}},
		{name: "from the middle", after: 3, polls: polls{gives(true, false, 4), gives(false, false, 5), gives(false, true, 6)}, status: is(buildcast.Executing, 5), ids: []int64{4, 5, 6}, asked: []int64{3, 4, 5}},
		{name: "the status knows more than the fold", polls: polls{gives(false, false, 1), gives(false, false)}, status: is(buildcast.Completed, 1), ids: []int64{1}, asked: []int64{0, 1}},

		{name: "waits for a build that is not there", polls: polls{gives(false, false), gives(false, false), gives(false, true, 1)}, status: noStatus(buildcast.NotFound), ids: []int64{1}, asked: []int64{0, 0, 0}},
		{name: "the build is deleted", polls: polls{gives(false, false, 1), gives(false, false)}, status: noStatus(buildcast.NotFound), ids: []int64{1}, asked: []int64{0, 1}, code: buildcast.NotFound},
		{name: "a wrong key", polls: polls{fails(buildcast.Errorf(buildcast.Unauthenticated, "no"))}, asked: []int64{0}, code: buildcast.Unauthenticated},
		{name: "cursor ahead", after: 9, polls: polls{fails(buildcast.Errorf(buildcast.CursorAhead, "no"))}, asked: []int64{9}, code: buildcast.CursorAhead},
		{name: "a lasting gap", polls: slices.Repeat(polls{gives(false, false, 2)}, maxDefects), asked: make([]int64, maxDefects), code: buildcast.Internal},
		{name: "an old status for ever", after: 3, polls: polls{gives(false, false)}, status: is(buildcast.Completed, 2), asked: []int64{3}, code: buildcast.Internal},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{polls: test.polls, status: test.status}
				ids, err := s.follow(t, test.after)
				if !slices.Equal(ids, test.ids) || !slices.Equal(s.asked, test.asked) {
					t.Errorf("gave %v after polls at %v", ids, s.asked)
				}
				if inside := test.after > 0; (s.waits[0] == 0) != inside {
					t.Errorf("the first poll waits %v", s.waits[0]) // for a build that may be finished
				}
				if err != nil && !isAnswer(err) || buildcast.CodeOf(err) != test.code {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

func TestNetworkErrorsNeverEndAFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{polls: append(slices.Repeat(polls{fails(errUnreachable)}, 500), gives(false, true, 1))}
		ids, err := s.follow(t, 0)
		if err != nil || len(ids) != 1 {
			t.Errorf("%v, %v", ids, err)
		}
		for i, at := range s.at[1:] {
			if d := at.Sub(s.at[i]); d < minBackoff/2 || d > maxBackoff {
				t.Fatalf("%v between attempts %d and %d", d, i, i+1)
			}
		}
	})
}

// A server, or a proxy, that does not wait must not be asked all the time; nor
// must each event of a busy build cost a request.
func TestPollsAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{status: is(buildcast.Executing, 2), polls: polls{
			gives(false, false, 1), gives(false, false, 2), gives(false, false), gives(false, false), gives(true, false, 3), gives(false, true, 4),
		}}
		if _, err := s.follow(t, 0); err != nil {
			t.Fatal(err)
		}
		for i, want := range []time.Duration{frame, frame, idle, idle, 0} {
			if d := s.at[i+1].Sub(s.at[i]); d != want {
				t.Errorf("%v between polls %d and %d, not %v", d, i, i+1, want)
			}
		}
	})
}

func TestFollowEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, faults := range map[string][]string{"while it polls": nil, "while the server is away": slices.Repeat([]string{"refused"}, 1000)} {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			var last error
			for _, err := range connect(t, newServer(), faults...).Follow(ctx, build, 0) {
				last = err
			}
			cancel()
			if !errors.Is(last, context.DeadlineExceeded) || !strings.Contains(last.Error(), build) {
				t.Errorf("%s: %v", name, last)
			}
			if faults != nil && !errors.Is(last, errRefused) {
				t.Errorf("%s: the error does not say why: %v", name, last)
			}
		}
	})
}

func TestFollowCanBeLeft(t *testing.T) {
	s := newServer()
	s.add(ev("a"), ev("b"), ev("c"))
	for e, err := range connect(t, s).Follow(t.Context(), build, 0) {
		if err != nil || e.ID > 2 {
			t.Fatal(e.ID, err)
		}
		if e.ID == 2 {
			break
		}
	}
}

func TestFollowRefusesABadID(t *testing.T) {
	n := 0
	for _, err := range connect(t, http.NotFoundHandler()).Follow(t.Context(), "../x", 0) {
		if n++; buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("error %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d errors", n)
	}
}

// Emitter and Follow over a wire that breaks in all ways, at both ends: the log
// has each event once and in order, and so has the follower.
func TestEachEventOnceThroughAnyFaults(t *testing.T) {
	faults := rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "refused", "busy", "proxy", "silent", "lost", "cut", "late", "cut later", "ended", "held", "stalls", "gap", "double"}), 0, 25)
	rapid.Check(t, func(rt *rapid.T) {
		count := rapid.IntRange(0, 30).Draw(rt, "events")
		leave := rapid.IntRange(0, count).Draw(rt, "leave")
		up, down := faults.Draw(rt, "emitter's faults"), faults.Draw(rt, "follower's faults")
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			e, err := connect(t, s, up...).Emitter(build, EmitterOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan string, 1)
			go func() {
				types := followFrom(t, connect(t, s, down...), 0, leave)
				types = append(types, followFrom(t, connect(t, s, down...), len(types), -1)...)
				got <- strings.Join(types, " ")
			}()
			var want []string
			for i := range count {
				want = append(want, fmt.Sprintf("e%d", i))
				if err := e.Emit(ev(want[i])); err != nil {
					t.Error(err)
				}
				<-time.After(time.Duration(i%4) * 30 * time.Millisecond)
			}
			want = append(want, buildcast.BuildCompleted, "afterwards")
			_ = e.Emit(ev(buildcast.BuildCompleted))
			_ = e.Keep(ev("afterwards"))
			if err := e.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if types := s.types(); !slices.Equal(types, want) {
				t.Errorf("the log has %v", types)
			}
			// Whether the event after the end is stored before the follower has
			// left depends on the faults.
			seen, all := <-got, strings.Join(want, " ")
			if seen != all && seen+" afterwards" != all {
				t.Errorf("followed %q of %q", seen, all)
			}
		})
	})
}

// followFrom gives the types of what it follows, to the end or until it has so many.
func followFrom(t *testing.T, c *Client, after, most int) (types []string) {
	for e, err := range c.Follow(t.Context(), build, int64(after)) {
		if err != nil {
			t.Error(err)
			break
		}
		if types = append(types, e.Type); len(types) == most {
			break
		}
	}
	return types
}
