package store

import (
	"context"

	"github.com/buildcast/buildcast"
)

// Bounds of one read while a cut folds the events that it cuts off.
const (
	foldEvents = 500
	foldBytes  = 1 << 20
)

// DecodeStatus reads a stored status. A status that was stored before logs could be
// cut has no firstEventId: its log begins at 1.
func DecodeStatus(text []byte) (buildcast.Status, error) {
	st := buildcast.Status{FirstEventID: 1}
	err := Decode(text, &st)
	return st, err
}

// Reborn returns the status of a build that is created under the id of a deleted one,
// whose log ended at last: it begins a new fold, and its ids continue.
func Reborn(id, project string, last int64, now buildcast.Time) buildcast.Status {
	st := buildcast.NewStatus(id, project, now)
	st.FirstEventID, st.LastEventID = last+1, last
	return st
}

// Tombstone returns the status in the row of a deleted build. No method of a store
// returns it.
func Tombstone(id string, last int64, now buildcast.Time) buildcast.Status {
	return Reborn(id, "", last, now)
}

// Cutter is the part of a store that Truncate needs.
type Cutter interface {
	Reader
	FoldStart(ctx context.Context, id string) (buildcast.Status, error)
	// Cut makes start.FirstEventID the first event, and start the status from which
	// the kept events are folded. It reports false, and changes nothing, unless from
	// is the first event now.
	Cut(ctx context.Context, id string, from int64, start buildcast.Status) (done bool, err error)
}

// Truncate implements Cuts.TruncateLog. Stored events never change, so it folds them
// before the transaction that cuts, which is therefore short.
func Truncate(ctx context.Context, s Cutter, id string, first int64) (int64, error) {
	for {
		start, err := s.FoldStart(ctx, id)
		if err != nil {
			return 0, err
		}
		from := start.FirstEventID
		if first <= from {
			return from, nil
		}
		bounds, err := s.Bounds(ctx, []string{id})
		if err != nil {
			return 0, err
		}
		if last := bounds[id].Last; first > last+1 {
			return 0, buildcast.Errorf(buildcast.InvalidArgument, "the log of build %s ends at event %d: it cannot begin at %d", id, last, first).At("first")
		}
		if whole, err := foldTo(ctx, s, id, &start, first); err != nil {
			return 0, err
		} else if !whole {
			continue // the log was cut meanwhile
		}
		if done, err := s.Cut(ctx, id, from, start); err != nil || done {
			return first, err
		}
	}
}

// foldTo folds the events before first into the status. It reports false if one of
// them is no longer kept.
func foldTo(ctx context.Context, s Reader, id string, st *buildcast.Status, first int64) (bool, error) {
	for st.LastEventID < first-1 {
		events, err := s.ReadEvents(ctx, id, st.LastEventID, int(min(foldEvents, first-1-st.LastEventID)), foldBytes)
		if err != nil || len(events) == 0 || events[0].ID != st.LastEventID+1 {
			return false, err
		}
		for i := range events {
			st.Apply(&events[i])
		}
	}
	st.FirstEventID = first
	return true, nil
}
