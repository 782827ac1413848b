package store

import (
	"context"
	"time"

	"github.com/buildcast/buildcast"
)

// Endpoint is a webhook endpoint as it is stored.
type Endpoint struct {
	buildcast.Endpoint // without its secret and the values of its headers
	// Sealed holds the endpoint's secrets, in a form that the store does not know.
	Sealed []byte
	// Version counts the changes. 0: not stored yet.
	Version int64
}

// Endpoints stores the webhook endpoints. There are few: all are read together.
type Endpoints interface {
	// SaveEndpoint stores the endpoint if the stored one still has its version
	// (0: none is stored), and returns the new version. Conflict, NotFound.
	SaveEndpoint(ctx context.Context, e Endpoint) (version int64, err error)
	// ListEndpoints returns all endpoints, the oldest first.
	ListEndpoints(ctx context.Context) ([]Endpoint, error)
	// DeleteEndpoint removes the endpoint with its cursors, deliveries and
	// counts. NotFound.
	DeleteEndpoint(ctx context.Context, id string) error
}

// Cursor is the place of an endpoint in a build's log. It is leased to the node that
// delivers from it.
//
// It exists while an event may have to be delivered. The transaction that appends
// creates it, at the first event that it stores, for each enabled endpoint that
// follows the build and has none. The holder of a cursor at the end of its log parks
// it: the cursor is removed.
type Cursor struct {
	EndpointID string
	BuildID    string
	Next       int64 // the id of the first kept event that is not delivered yet
	Missed     int64 // of a claim: how many events before Next were cut off before they were delivered
	Generation int64 // of the lease: each claim and each Rewind adds one
}

// StartAt moves the cursor to the log's first event, if the cursor stands before it.
func (c *Cursor) StartAt(first int64) {
	if first > c.Next {
		c.Missed += first - c.Next
		c.Next = first
	}
}

// Move advances a cursor that the caller holds. At most one of Park, Failed and Leave
// is set.
type Move struct {
	Cursor                     // as it was claimed, with the new Next
	Park   bool                // remove it, unless its log has grown beyond Next meanwhile
	Failed *buildcast.Delivery // also store the delivery of the event before Next, which is retried
	Block  bool                // with Failed: end the lease; nobody claims the cursor until that delivery is delivered or dead
	Leave  *time.Time          // end the lease; the cursor is due at this time
}

// Moved is the answer to a move.
type Moved struct {
	// Held reports whether the caller still holds the cursor. It does not if the cursor
	// was taken over, rewound, parked, blocked or left.
	Held bool
	// Parked reports whether the cursor was removed. If Park was set and Held is true,
	// the log has grown.
	Parked bool
}

// Cursors stores the places of the endpoints in the builds' logs. Times, here and
// below, are those of the caller's clock, so that tests can set them; the clocks of
// the nodes must agree to a few seconds.
type Cursors interface {
	// ClaimCursors leases up to limit cursors of the endpoint, the longest due first:
	// cursors that are due, not blocked and not leased beyond now, and, if builds is
	// not nil, that belong to one of builds. The lease ends at until. A cursor before
	// the first kept event of its log moves to that event.
	ClaimCursors(ctx context.Context, owner, endpointID string, builds []string, now, until time.Time, limit int) ([]Cursor, error)
	// MoveCursors stores the moves in one transaction. They survive the end of the
	// process. A crash of the machine may undo them: then events are delivered again.
	MoveCursors(ctx context.Context, owner string, moves []Move) ([]Moved, error)
	// Rewind moves the endpoint's cursor in the build's log to next, or to the first
	// kept event if that is later. It creates the cursor if there is none, makes it due
	// at once, and ends its lease. NotFound if the build or the endpoint does not exist.
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
	// SaveDelivery stores a delivery that was claimed, and ends its lease. If the
	// delivery is no longer retrying, SaveDelivery unblocks the cursor. If the owner no
	// longer holds the delivery, it stores nothing.
	SaveDelivery(ctx context.Context, owner string, d buildcast.Delivery) error
	// RecallDeliveries removes the deliveries of the endpoint that are retrying and
	// were first attempted at or after since. It moves the cursors, held or not, back to
	// the first removed delivery of each build. It keeps deliveries that were asked for
	// by Redeliver.
	RecallDeliveries(ctx context.Context, endpointID string, since time.Time) error
}

// Deliveries are the deliveries that failed, as users see them.
type Deliveries interface {
	// Redeliver makes deliveries retrying and due at once, and returns how many. Their
	// earlier attempts no longer count. Without a build it takes all deliveries that
	// are dead and were last tried at or after Since. With a build and an event it takes
	// the delivery of that event, whatever its state, and creates it if there is none.
	// NotFound if the endpoint or the event does not exist.
	Redeliver(ctx context.Context, r Redelivery, now time.Time) (int64, error)
	// ListDeliveries returns a page of deliveries, the newest first by creation.
	ListDeliveries(ctx context.Context, f DeliveryFilter) (DeliveryPage, error)
	// PruneDeliveries removes deliveries that are delivered or dead and were last tried
	// before the time, and the counts of earlier buckets.
	PruneDeliveries(ctx context.Context, before time.Time) error
}

// Redelivery selects the deliveries for Redeliver.
type Redelivery struct {
	EndpointID string
	BuildID    string // with EventID; empty: all dead deliveries
	EventID    int64
	Since      time.Time
}

// DeliveryFilter selects deliveries for a list. Empty fields select all.
type DeliveryFilter struct {
	EndpointID string
	BuildID    string
	State      buildcast.DeliveryState
	Before     string // the Next of the previous page; empty: the first page
	Limit      int
}

// DeliveryPage is one page of deliveries.
type DeliveryPage struct {
	Deliveries []buildcast.Delivery
	Next       string // empty: this is the last page
}

// Counts are the numbers that one run of a node has counted for one endpoint in one
// bucket of time. The counts of the log itself have an empty EndpointID.
type Counts struct {
	EndpointID string
	Bucket     time.Time // its beginning; a bucket is five minutes long
	Run        string    // identifies the node's process
	// Numbers are the counts as JSON, in a form that the store does not know.
	Numbers []byte
}

// Waiting counts what waits to be delivered to an endpoint.
type Waiting struct {
	Cursors, Events int64 // cursors that are not at the end of their log, and the events after them
	Retrying, Dead  int64 // deliveries
}

// Counting stores the counts.
type Counting interface {
	// SaveCounts replaces the rows of the same endpoint, bucket and run.
	SaveCounts(ctx context.Context, counts []Counts) error
	// ReadCounts returns the rows of buckets that began at or after since.
	ReadCounts(ctx context.Context, since time.Time) ([]Counts, error)
}

// Backlogs measures how much waits, and how much is stored.
type Backlogs interface {
	// Waiting returns what waits for each endpoint, by its id.
	Waiting(ctx context.Context) (map[string]Waiting, error)
	// Size returns the size of the database on disk, in bytes.
	Size(ctx context.Context) (int64, error)
}
