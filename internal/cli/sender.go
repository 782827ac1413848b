package cli

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

// sender appends a command's events to its build. It looks for the server when
// there is a first event, and again while none answers: one may be started while
// the command runs.
type sender struct {
	connection  *verb.Connection
	id, project string
	begin       func(server string) // called once, when a server is found
	to          *client.Client

	found  atomic.Bool // whether a server is known
	looked chan struct{}
	once   sync.Once // closes looked
}

func newSender(c *verb.Connection, id, project string, begin func(server string)) *sender {
	s := &sender{connection: c, id: id, project: project, begin: begin, looked: make(chan struct{})}
	s.found.Store(c.Server != "") // one that is named is worth waiting for
	return s
}

// append is the reporter's way to the log. Calls do not overlap.
func (s *sender) append(ctx context.Context, events []buildcast.NewEvent) error {
	if s.to == nil {
		if err := s.find(ctx); err != nil {
			return err
		}
	}
	if s.project != "" {
		if _, err := s.to.CreateBuild(ctx, client.CreateBuild{ID: s.id, Project: s.project}); err != nil {
			return err
		}
		s.project = ""
	}
	_, err := s.to.Append(ctx, s.id, events...)
	return err
}

func (s *sender) find(ctx context.Context) error {
	defer s.once.Do(func() { close(s.looked) })
	to, at, err := s.connection.Find(ctx)
	if buildcast.CodeOf(err) == buildcast.NotFound {
		return buildcast.Errorf(buildcast.Unreachable, "no server is found").Because(err)
	}
	if err != nil {
		return err
	}
	s.found.Store(true)
	s.begin(at)
	s.to = to
	return nil
}

// wait waits until the first look for a server is over, but not long: the command
// waits meanwhile.
func (s *sender) wait() {
	limit := time.NewTimer(lookTime)
	defer limit.Stop()
	select {
	case <-s.looked:
	case <-limit.C:
	}
}

// lookTime is how long the command's start waits for the build's address to be
// known, so that it is printed before the command's output.
const lookTime = 200 * time.Millisecond
