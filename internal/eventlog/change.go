package eventlog

import "github.com/buildcast/buildcast"

// Change describes one commit to the subscribers: the hub, the webhooks, the
// pipeline, a bus to other nodes. Nothing else tells them of commits.
type Change struct {
	Kind    Kind
	BuildID string

	// Events and Status are set for Appended: what was stored, and the build's
	// status after it. A build that has just been created has no events.
	Events []buildcast.Event
	Status buildcast.Status

	// LastEventID is set for Hinted: the last event of the build's log, as far as the
	// other process has told.
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
	Hinted                    // another process reported that it stored events; it may be wrong
	Truncated                 // a log was cut from the front, or its build deleted
)

// Subscribe registers a function that is called with each change, after its commit.
// The changes of one build come in the order of their commits. The function must not
// block: the next commit waits for it. Subscribe before Run.
func (l *Log) Subscribe(changed func(Change)) { l.subscribers = append(l.subscribers, changed) }

// Publish calls the subscribers with a change. The log publishes its own commits; a
// bus publishes those that other processes report.
func (l *Log) Publish(c Change) {
	for _, changed := range l.subscribers {
		changed(c)
	}
}
