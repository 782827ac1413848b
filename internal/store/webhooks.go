package store

import (
	"context"
	"time"

	"github.com/buildcast/buildcast"
)

// Endpoint is a webhook endpoint as it is stored.
type Endpoint struct {
	buildcast.Endpoint // without its secret and the values of its headers
	// Sealed is what must not be read by everyone, in a form that the store knows
	// nothing of.
	Sealed []byte
	// Version counts the changes. 0: not stored yet.
	Version int64
}

// Endpoints keeps the webhook endpoints. There are few: all are read together.
type Endpoints interface {
	// SaveEndpoint stores the endpoint if the stored one still has its version
	// (0: there is none), and returns the new version. Conflict, NotFound.
	SaveEndpoint(ctx context.Context, e Endpoint) (version int64, err error)
	// ListEndpoints returns all endpoints, the oldest first.
	ListEndpoints(ctx context.Context) ([]Endpoint, error)
	// DeleteEndpoint removes the endpoint with its cursors, deliveries and
	// counts. NotFound.
	DeleteEndpoint(ctx context.Context, id string) error
}

// Cursor is the place of an endpoint in a build's log, leased to whoever
// delivers from it.
//
// It exists while something may have to be delivered: the transaction that
// appends creates it for each enabled endpoint that follows the build and has none,
// at the first event that it stores. A cursor at the end of its log is parked, that
// is, removed, by whoever holds it.
type Cursor struct {
	EndpointID string
	BuildID    string
	Next       int64 // the id of the first event that is not delivered yet, and still exists
	Missed     int64 // of a claim: how many events before Next were deleted before they were delivered
	Generation int64 // of the lease: each claim and each Rewind gives the next
}

// StartAt moves the cursor to the log's first event, if that comes after it.
func (c *Cursor) StartAt(first int64) {
	if first > c.Next {
		c.Missed += first - c.Next
		c.Next = first
	}
}

// Move is what has become of a cursor that is held. Exactly one of the fields
// beside Cursor and Next is set, or none.
type Move struct {
	Cursor                     // as it was claimed; Next says how far it has come since
	Park   bool                // remove it, if its log has not grown beyond Next meanwhile
	Failed *buildcast.Delivery // store the delivery of the event before Next too, retrying
	Block  bool                // with Failed: leave the cursor to itself until that delivery is delivered or dead
	Leave  *time.Time          // let go of it; it is due again then
}

// Moved is the answer to a move.
type Moved struct {
	// Held is false if the cursor was taken over, rewound, parked or left: it is no
	// longer the caller's.
	Held bool
	// Parked reports that the cursor was removed. If Park was asked for and Held is
	// true, the log has grown.
	Parked bool
}

// Cursors keeps where the endpoints stand in the builds' logs. Times, here and
// below, are the caller's, so that they can be tested; nodes' clocks must agree to a
// few seconds.
type Cursors interface {
	// ClaimCursors leases up to limit cursors of the endpoint that are due, not
	// blocked and not leased beyond now, the longest due first; if builds is not
	// nil, only those of the builds. The lease ends at until. A cursor in a log that
	// was cut is claimed at the first event that is kept.
	ClaimCursors(ctx context.Context, owner, endpointID string, builds []string, now, until time.Time, limit int) ([]Cursor, error)
	// MoveCursors stores the moves in one transaction. What it answers has been
	// stored and survives the end of the process; a crash of the machine may
	// undo it, so that events are delivered again.
	MoveCursors(ctx context.Context, owner string, moves []Move) ([]Moved, error)
	// Rewind moves the endpoint's cursor of the build to next, or to the first event
	// that is kept if that is later, creates it if there is none, makes it due at
	// once, and takes it from whoever holds it. NotFound for an unknown build or
	// endpoint.
	Rewind(ctx context.Context, endpointID, buildID string, next int64) error
}

// CursorLeases are the leases of cursors and of failed deliveries.
type CursorLeases interface {
	// RenewCursors extends the owner's leases that have not ended. It skips leases
	// whose end is listed in except.
	RenewCursors(ctx context.Context, owner string, now, until time.Time, except ...time.Time) error
	// ReleaseCursors ends the owner's leases, so that others can claim at once.
	ReleaseCursors(ctx context.Context, owner string) error
}

// Retries are the deliveries that failed and are tried again.
type Retries interface {
	// ClaimDeliveries leases up to limit deliveries of the endpoint whose RetryAt
	// has come, the longest due first.
	ClaimDeliveries(ctx context.Context, owner, endpointID string, now, until time.Time, limit int) ([]buildcast.Delivery, error)
	// SaveDelivery stores what has become of a delivery that was claimed, and ends
	// its lease. If the delivery is no longer retrying it unblocks the cursor. If the
	// owner no longer holds the delivery it stores nothing.
	SaveDelivery(ctx context.Context, owner string, d buildcast.Delivery) error
	// RecallDeliveries undoes the deliveries of the endpoint that were first
	// attempted at or after since and are retrying: it removes them and puts the
	// cursors, held or not, back to the first of them in each build.
	RecallDeliveries(ctx context.Context, endpointID string, since time.Time) error
}

// Deliveries are the deliveries that failed, as people see them.
type Deliveries interface {
	// Redeliver makes the matching deliveries retrying and due at once, without
	// their attempts so far counting: all that are dead and were last tried at or
	// after since; or, with a build and an event, exactly that one, whatever its
	// state, which is created if there is none. It returns how many. NotFound if the
	// endpoint or the event does not exist.
	Redeliver(ctx context.Context, r Redelivery, now time.Time) (int64, error)
	// ListDeliveries returns a page of deliveries, the newest first by creation.
	ListDeliveries(ctx context.Context, f DeliveryFilter) (DeliveryPage, error)
	// PruneDeliveries removes those that are delivered or dead and were last
	// tried before, and counts of buckets before.
	PruneDeliveries(ctx context.Context, before time.Time) error
}

// Redelivery says what is to be delivered again.
type Redelivery struct {
	EndpointID string
	BuildID    string // with EventID; empty: the dead ones
	EventID    int64
	Since      time.Time
}

// DeliveryFilter selects deliveries for a list. Empty fields select all.
type DeliveryFilter struct {
	EndpointID string
	BuildID    string
	State      buildcast.DeliveryState
	Before     string // the Next of the page before
	Limit      int
}

// DeliveryPage is one page of deliveries.
type DeliveryPage struct {
	Deliveries []buildcast.Delivery
	Next       string // empty: this was the last
}

// Counts are what one run of a node counted for one endpoint in one bucket of
// time. The counts of the log itself are under the empty endpoint.
type Counts struct {
	EndpointID string
	Bucket     time.Time // when it began; buckets are five minutes
	Run        string    // of the node's process
	// Numbers are the counts, in a form that the store knows nothing of.
	Numbers []byte // JSON
}

// Waiting is what an endpoint has before it.
type Waiting struct {
	Cursors, Events int64 // those of cursors that are not at the end of their log
	Retrying, Dead  int64
}

// Counting keeps the counts.
type Counting interface {
	// SaveCounts replaces the rows of the same endpoint, bucket and run.
	SaveCounts(ctx context.Context, counts []Counts) error
	// ReadCounts returns the rows of buckets that began at or after since.
	ReadCounts(ctx context.Context, since time.Time) ([]Counts, error)
}

// Backlogs is how much there is.
type Backlogs interface {
	// Waiting returns what each endpoint has before it.
	Waiting(ctx context.Context) (map[string]Waiting, error)
	// Size returns what the database takes up on disk, in bytes.
	Size(ctx context.Context) (int64, error)
}
