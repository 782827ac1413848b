package webhooks

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

// manyBuilds is a server with builds, each with a log of events of one type. The
// newest is the last.
type manyBuilds struct {
	mu      sync.Mutex
	builds  []buildcast.Status
	follows map[string]int // now
	most    int            // followed at once
	listErr error
	changed chan struct{}
}

func newBuilds() *manyBuilds {
	return &manyBuilds{follows: map[string]int{}, changed: make(chan struct{})}
}

// set makes the build, or has its log end at the event.
func (m *manyBuilds) set(id string, last int64, phase buildcast.Phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.changed)
	m.changed = make(chan struct{})
	for i := range m.builds {
		if b := &m.builds[i]; b.BuildID == id {
			b.LastEventID, b.Phase = last, phase
			return
		}
	}
	s := buildcast.NewStatus(id, "", buildcast.Now())
	s.LastEventID, s.Phase = last, phase
	m.builds = append(m.builds, s)
}

func (m *manyBuilds) remove(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.builds = slices.DeleteFunc(m.builds, func(s buildcast.Status) bool { return s.BuildID == id })
}

func (m *manyBuilds) Builds(_ context.Context, f client.Filter) (p client.Page, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := len(m.builds)
	if f.Before != "" {
		from, _ = strconv.Atoi(f.Before)
	}
	for i := from - 1; i >= 0; i-- {
		if f.Phase != "" && m.builds[i].Phase != f.Phase {
			continue
		}
		if len(p.Builds) == f.Limit {
			p.Next = strconv.Itoa(i + 1)
			break
		}
		p.Builds = append(p.Builds, m.builds[i])
	}
	return p, m.listErr
}

func (m *manyBuilds) Status(_ context.Context, id string) (buildcast.Status, error) {
	s, _ := m.status(id)
	return s, nil
}

func (m *manyBuilds) status(id string) (buildcast.Status, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.builds {
		if s.BuildID == id {
			return s, m.changed
		}
	}
	return buildcast.Status{}, m.changed
}

func (m *manyBuilds) Follow(ctx context.Context, id string, after int64) iter.Seq2[buildcast.Event, error] {
	return func(yield func(buildcast.Event, error) bool) {
		m.count(id, 1)
		defer m.count(id, -1)
		for {
			s, changed := m.status(id)
			for ; after < s.LastEventID; after++ {
				if !yield(buildcast.Event{ID: after + 1, BuildID: id, Type: "step"}, nil) {
					return
				}
			}
			if s.Phase.Terminal() {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(buildcast.Event{}, fmt.Errorf("following: %w", context.Cause(ctx)))
				return
			}
		}
	}
}

func (m *manyBuilds) count(id string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.follows[id] += n
	sum := 0
	for _, n := range m.follows {
		sum += n
	}
	m.most = max(m.most, sum)
}

// forward runs a forwarder over the builds, until the test has done what it does
// to them, and gives what it posted.
func forward(t *testing.T, m *manyBuilds, meanwhile func()) (posted []string, err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	f := &forwarder{
		builds: m, matches: func(string) bool { return true }, link: new(verb.Link).Logger(), note: t.Logf,
		post: func(_ context.Context, e *buildcast.Event) error {
			mu.Lock()
			defer mu.Unlock()
			posted = append(posted, fmt.Sprintf("%s/%d", e.BuildID, e.ID))
			return nil
		},
	}
	ended := make(chan error)
	go func() { ended <- f.all(ctx) }()
	synctest.Wait()
	meanwhile()
	cancel()
	err = <-ended
	for id, n := range m.follows {
		if n != 0 {
			t.Errorf("%s is still followed", id)
		}
	}
	return posted, err
}

func TestForwardsWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newBuilds()
		for i := range 150 { // more than a page
			m.set(fmt.Sprintf("old%d", i), 3, buildcast.Completed)
			<-time.After(time.Second)
		}
		m.set("live", 7, buildcast.Executing)
		posted, _ := forward(t, m, func() {
			m.set("live", 8, buildcast.Executing)
			m.set("short", 2, buildcast.Failed) // over before it is found
			m.set(buildcast.OperationsBuild, 1, buildcast.Queued)
			<-time.After(3 * lookAround)
			for i := range 10 { // older ones slide into the list's first page
				m.remove(fmt.Sprintf("old%d", 100+i))
			}
			<-time.After(3 * lookAround)
			for i := range 250 { // more than two pages at once, and more than are followed at once
				m.set(fmt.Sprintf("burst%d", i), 1, buildcast.Completed)
			}
			<-time.After(10 * lookAround)
			m.set("live", 9, buildcast.Completed)
			<-time.After(lookAround)
		})
		want := []string{"live/8", "short/1", "short/2", "live/9"}
		for i := range 250 {
			want = append(want, fmt.Sprintf("burst%d/1", i))
		}
		slices.Sort(want)
		if slices.Sort(posted); !slices.Equal(posted, want) {
			t.Errorf("%d posted; the difference is %s", len(posted), cmp.Diff(want, posted))
		}
		if m.most > maxFollowed {
			t.Errorf("%d followed at once", m.most)
		}
	})
}

// More builds go on than are followed at once, and most are silent: each event is
// forwarded once all the same.
func TestSilentBuildsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const builds = 3 * maxFollowed
		m := newBuilds()
		for i := range builds {
			m.set(fmt.Sprintf("b%d", i), 1, buildcast.Executing)
		}
		posted, err := forward(t, m, func() {
			for round := range int64(5) {
				for i := range builds {
					m.set(fmt.Sprintf("b%d", i), 2+round, buildcast.Executing)
				}
				<-time.After(7 * idleTurn)
			}
		})
		seen := map[string]int64{}
		for _, p := range posted {
			var i, id int64
			if _, err := fmt.Sscanf(p, "b%d/%d", &i, &id); err != nil {
				t.Fatal(err)
			}
			if build := fmt.Sprint(i); id != max(seen[build], 1)+1 {
				t.Errorf("%s after %d", p, seen[build])
			} else {
				seen[build] = id
			}
		}
		if len(posted) != 5*builds || m.most != maxFollowed || !errors.Is(err, context.Canceled) {
			t.Errorf("%d posted, %d followed at once, %v", len(posted), m.most, err)
		}
	})
}

func TestAListThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newBuilds()
		posted, _ := forward(t, m, func() {
			m.fail(buildcast.Errorf(buildcast.Unreachable, "connection refused"))
			m.set("new", 1, buildcast.Completed)
			<-time.After(time.Minute)
			m.fail(nil)
			<-time.After(time.Minute)
		})
		if !slices.Equal(posted, []string{"new/1"}) {
			t.Errorf("posted %v", posted)
		}
		_, err := forward(t, m, func() {
			m.fail(buildcast.Errorf(buildcast.Unauthenticated, "no"))
			<-time.After(time.Minute)
		})
		if buildcast.CodeOf(err) != buildcast.Unauthenticated {
			t.Errorf("error %v", err)
		}
	})
}

func (m *manyBuilds) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listErr = err
}
