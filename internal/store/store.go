// Package store defines what a store does, and holds no SQL. The stores are in
// sqlite and postgres; storetest is the one conformance suite that both pass.
//
// Every method may be called from many goroutines. Every error is a
// *buildcast.Error. The comment of a method names the codes that it may return;
// every method may return these too:
//   - StoreUnavailable if the database cannot be reached or cannot write; the
//     message says whether something may have been stored
//   - Unreachable if the context ends first; it wraps the context's cause
//   - InvalidArgument if the database refuses a value
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
	// Events are the stored events, in the order of the append. If a key was stored
	// before, its event is the one that is stored under it, without its data: a small
	// request that repeats many keys must not make the store read much data.
	Events []buildcast.Event
	// Added are those of Events that this append has stored, with their data.
	Added []buildcast.Event
	// Status is the build's status after the append.
	Status buildcast.Status
	// Err is the error of this append alone, such as Fenced. Other appends of the call
	// may have been stored.
	Err error
}

// Appender writes the logs.
type Appender interface {
	// AppendEvents stores the appends in few transactions, all appends to one build in
	// the same, and returns after the commit. It locks the builds' rows, assigns the
	// ids, folds, and inserts. A build that does not exist is created as an external
	// one, unless the append is fenced: then its Err is Fenced. Several appends of one
	// call may be for the same build; they are stored in order. An error means that no
	// append of the call is known to be stored.
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

// Bounds are the first and the last id of a build's log.
type Bounds struct {
	First int64 // of the first event that is kept; Last+1 if none is kept
	Last  int64 // the highest id that was ever assigned; 0 if none was
}

// NewBuild is a build to be created.
type NewBuild struct {
	ID      string
	Project string
	Prompt  string
	Plan    *buildcast.Plan // nil without a prompt: external
	Deploy  string
	Options buildcast.Options
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
	// Before is the Next of the previous page; empty: the first page.
	Before string
	Limit  int
}

// Page is one page of builds, the newest first.
type Page struct {
	Statuses []buildcast.Status
	Next     string // empty: this is the last page
}

// Builds stores the builds themselves.
type Builds interface {
	// CreateBuild stores a queued build. If a build with the same id or idempotency
	// key exists, created is false: CreateBuild returns that build if the same request
	// created it, and Conflict otherwise.
	CreateBuild(ctx context.Context, b NewBuild) (build buildcast.Build, created bool, err error)
	// GetBuild returns the build. NotFound.
	GetBuild(ctx context.Context, id string) (buildcast.Build, error)
	// ListBuilds returns a page of builds. InvalidArgument if Before is not a Next.
	ListBuilds(ctx context.Context, f Filter) (Page, error)
}

// Plans stores the plans that planners make.
type Plans interface {
	// SavePlan stores the plan of a build that was created with a prompt, unless the
	// build has been claimed again: Fenced. If the build has a plan, it keeps that one:
	// whoever continues after a crash must not plan twice. NotFound.
	SavePlan(ctx context.Context, l Lease, plan *buildcast.Plan) error
}

// Cuts shortens logs from the front. A cut changes only the build's row: no reader
// gets the events before it any longer, and a Purger removes them in steps. A key is
// remembered as long as its event is kept.
type Cuts interface {
	// DeleteBuild removes a finished build and cuts its log at the end. The build's
	// row stays as a tombstone, and an append or a creation under its id begins a new
	// fold. DeleteBuild returns the id of the next event under this build id.
	// NotFound, NotFinished.
	DeleteBuild(ctx context.Context, id string) (first int64, err error)
	// TruncateLog cuts off the events before first. It returns the id of the first
	// event that is kept, which is greater if the log had been cut further already.
	// NotFound; InvalidArgument if first is beyond the next event's id.
	TruncateLog(ctx context.Context, id string, first int64) (int64, error)
	// FoldStart returns the status from which the kept events are folded: that of a
	// new build, or the fold of the events that were cut off. NotFound.
	FoldStart(ctx context.Context, id string) (buildcast.Status, error)
}

// Purger removes the rows that cuts have left behind.
type Purger interface {
	// Purge removes up to limit rows, in a transaction of a few milliseconds, and
	// reports whether there may be more.
	Purge(ctx context.Context, limit int) (more bool, err error)
}

// Lease is the right to run one build. Appends with its generation are refused once
// the build has been claimed again.
type Lease struct {
	BuildID    string
	Owner      string
	Generation int64
}

// Leases hands out builds to the processes that run them. Times are those of the
// store's own clock.
type Leases interface {
	// ClaimBuilds leases up to limit builds, the oldest first, each with the next
	// generation. It takes builds that have a plan or a prompt, are not finished, and
	// have no lease or one that has ended. It skips the builds in except, which the caller
	// runs already.
	ClaimBuilds(ctx context.Context, owner string, ttl time.Duration, limit int, except []string) ([]Lease, error)
	// RenewLease makes the lease end at ttl from now, even if it has ended already,
	// unless the build has been claimed again: Fenced. NotFound.
	RenewLease(ctx context.Context, l Lease, ttl time.Duration) error
	// ReleaseLeases ends all leases of the owner, so that the builds can be claimed at
	// once. The generations do not change.
	ReleaseLeases(ctx context.Context, owner string) error
}

// Database is the database behind the other interfaces.
type Database interface {
	// Ping reports whether the database can write now.
	Ping(ctx context.Context) error
	Close() error
}

// Store is the whole store, for the code that opens it and for the suite that tests
// it. Code that uses a store declares the one to three methods that it needs.
type Store interface {
	Appender
	Reader
	Builds
	Plans
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
