package eventlog

import "github.com/buildcast/buildcast"

// Change is one commit, as those who follow commits learn of it: the hub, the
// webhooks, the pipeline, a bus to other nodes. There is no other way to learn of
// one.
type Change struct {
	Kind    Kind
	BuildID string

	// Events and Status are set for Appended: what was stored, and the build's
	// status after it. A build that has just been created has no events.
	Events []buildcast.Event
	Status buildcast.Status

	// LastEventID is set for Hinted: the build's log reaches it, or is said to.
	LastEventID int64

	// FirstEventID is set for Truncated: the events before it are gone. It is one
	// more than the log's last id if the build was deleted.
	FirstEventID int64
	Deleted      bool
}

// Kind tells changes apart.
type Kind int

// The kinds of changes.
const (
	Appended  Kind = iota + 1 // this process stored events, or created a build
	Hinted                    // another process says that it stored events; it may be wrong
	Truncated                 // a log was cut from the front, or its build deleted
)

// Subscribe registers a function that is told of each change after its commit, in
// the order of the commits of one build. The function must not wait for anything:
// the next commit waits for it. Subscribe before Run.
func (l *Log) Subscribe(changed func(Change)) { l.subscribers = append(l.subscribers, changed) }

// Publish tells the subscribers of a change. The log publishes its own commits; a
// bus publishes what other processes say.
func (l *Log) Publish(c Change) {
	for _, changed := range l.subscribers {
		changed(c)
	}
}
