// Package store defines what a store does, and holds no SQL. The stores are in
// sqlite and postgres; storetest is the one conformance suite that both pass.
//
// Every method may be called from many goroutines. Every error is a
// *buildcast.Error. The methods name the codes that are theirs; any of them may
// return
//   - StoreUnavailable while the database cannot be reached or cannot write; the
//     message says whether something may have been stored
//   - Unreachable if the context ends first; it wraps the context's cause
//   - InvalidArgument if the database refuses what it is asked to store
//   - Internal if a stored row cannot be read
package store

import (
	"context"
	"time"

	"github.com/buildcast/buildcast"
)

// Append asks for events to be added to one build's log.
type Append struct {
	BuildID string
	// Events have been validated. They are stored in this order.
	Events []buildcast.NewEvent
	// Generation, unless it is 0, fences the append: the append is refused unless
	// the build's lease still has this generation.
	Generation int64
}

// Appended is the answer to one Append.
type Appended struct {
	// Events are the stored events in the order asked for. The event of a key that
	// was stored before is the one under that key, without its data: a few bytes
	// that ask for keys again must not bring up whatever is stored under them.
	Events []buildcast.Event
	// Added are those of Events that this append has stored, with their data.
	Added []buildcast.Event
	// Status is the build's after the append.
	Status buildcast.Status
	// Err is that of this append, such as Fenced: it is not known to be stored, and
	// others of the call are.
	Err error
}

// Appender writes the logs.
type Appender interface {
	// AppendEvents stores the appends in few transactions, those of one build in
	// one, and answers after the commit: it makes sure of the builds' rows, assigns
	// the ids, folds, and inserts. A build that does not exist is created as an
	// external one, unless the append is fenced: then its Err is Fenced. Several
	// appends of one call may be for the same build; they are stored in order. An
	// error means that nothing of the call is known to be stored.
	AppendEvents(ctx context.Context, appends []Append) ([]Appended, error)
}

// Reader reads the logs.
type Reader interface {
	// ReadEvents returns the events that are kept with an id greater than after,
	// in order: at most limit of them and about maxBytes of data, but at least one
	// if there is one. An unknown build has none.
	ReadEvents(ctx context.Context, buildID string, after int64, limit, maxBytes int) ([]buildcast.Event, error)

	// Statuses returns the statuses of the builds that exist.
	Statuses(ctx context.Context, buildIDs []string) (map[string]buildcast.Status, error)

	// Bounds returns the bounds of the logs of the builds that exist or were
	// deleted.
	Bounds(ctx context.Context, buildIDs []string) (map[string]Bounds, error)
}

// Bounds are the ids between which a build's log is kept.
type Bounds struct {
	First int64 // of the first event that is kept; Last+1 if none is
	Last  int64 // the highest id that was ever given; 0 if none was
}

// NewBuild is a build to be created.
type NewBuild struct {
	ID      string
	Project string
	Prompt  string
	Plan    *buildcast.Plan // nil: external
	Deploy  string
	// IdempotencyKey makes the creation idempotent for any id; empty: none.
	IdempotencyKey string
}

// Filter selects builds for a list.
type Filter struct {
	Phase   buildcast.Phase // empty: any
	Project string          // empty: any
	// Text is a part of the id, the project or the status's message, in upper or
	// lower case (of ASCII letters); empty: any.
	Text string
	// Before is the Next of the page before; empty: the first page.
	Before string
	Limit  int
}

// Page is one page of builds, the newest first.
type Page struct {
	Statuses []buildcast.Status
	Next     string // empty: this was the last
}

// Builds keeps the builds themselves.
type Builds interface {
	// CreateBuild stores a queued build, or returns the one that exists under the
	// same id or idempotency key if it was asked for with the same words (created
	// is then false). Conflict if it differs.
	CreateBuild(ctx context.Context, b NewBuild) (build buildcast.Build, created bool, err error)
	// GetBuild returns the build. NotFound.
	GetBuild(ctx context.Context, id string) (buildcast.Build, error)
	// ListBuilds returns a page of builds. InvalidArgument if Before is not a Next.
	ListBuilds(ctx context.Context, f Filter) (Page, error)
}

// Cuts shortens logs from the front. A cut changes the build's row only: the
// events before it are gone for every reader at once, and a Purger removes them in
// steps. A key is remembered as long as its event.
type Cuts interface {
	// DeleteBuild removes a finished build and cuts its log at the end. It returns
	// the id that the next event under this build id gets: the build's row stays as
	// a tombstone, and an append or a creation under its id begins a new fold.
	// NotFound, NotFinished.
	DeleteBuild(ctx context.Context, id string) (first int64, err error)
	// TruncateLog cuts off the events before first. It returns the id of the first
	// event that is kept, which is greater if the log had been cut further already.
	// NotFound; InvalidArgument if first is beyond the next event's id.
	TruncateLog(ctx context.Context, id string, first int64) (int64, error)
	// FoldStart returns the status that the kept events are folded from: that of a
	// new build, or the fold of the events that were cut off. NotFound.
	FoldStart(ctx context.Context, id string) (buildcast.Status, error)
}

// Purger removes what cuts have left behind.
type Purger interface {
	// Purge removes up to limit rows, in a transaction of a few milliseconds, and
	// reports whether there may be more.
	Purge(ctx context.Context, limit int) (more bool, err error)
}

// Lease is the right to run one build. Whoever appends with its generation is
// refused once the build has been claimed again.
type Lease struct {
	BuildID    string
	Owner      string
	Generation int64
}

// Leases hands builds that have a plan to those who run them. Times are the
// store's own clock.
type Leases interface {
	// ClaimBuilds leases up to limit builds that have a plan, are not finished and
	// whose lease is absent or over, the oldest first, each with the next
	// generation. It skips the builds in except: those that the caller runs now.
	ClaimBuilds(ctx context.Context, owner string, ttl time.Duration, limit int, except []string) ([]Lease, error)
	// RenewLease extends the lease by ttl from now, even one that has run out,
	// as long as nobody else has claimed the build. Fenced, NotFound.
	RenewLease(ctx context.Context, l Lease, ttl time.Duration) error
	// ReleaseLeases ends all leases of the owner, so that the builds can be claimed
	// at once. The generations stay.
	ReleaseLeases(ctx context.Context, owner string) error
}

// Database is what the rest is kept in.
type Database interface {
	// Ping reports whether the database can write now.
	Ping(ctx context.Context) error
	Close() error
}

// Store is all of it, for whoever opens a store and for the suite that tests it.
// Whoever uses a store declares the one to three methods that it needs.
type Store interface {
	Appender
	Reader
	Builds
	Cuts
	Purger
	Leases
	Endpoints
	Cursors
	CursorLeases
	Retries
	Deliveries
	Counting
	Backlogs
	Database
}
