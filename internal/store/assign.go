package store

import (
	"slices"

	"github.com/buildcast/buildcast"
)

// Row is a build's row that an append has locked.
type Row struct {
	Status     buildcast.Status
	Generation int64
	// Reborn is true if the row was the tombstone of a deleted build, which this
	// transaction turns into an external build.
	Reborn  bool
	changed bool
}

// EventKey is an idempotency key within its build.
type EventKey struct{ BuildID, Key string }

// Inserted is an event to be inserted, with its key.
type Inserted struct {
	buildcast.Event
	Key string
}

// Assigned is the answers of a transaction, and the rows that it has to write.
type Assigned struct {
	Appended []Appended
	Insert   []Inserted
	Update   []buildcast.Status // of the builds whose logs have grown
}

// Assign is the part of an append that both stores share, between locking the rows
// and inserting: it checks the fences and the keys, assigns the ids and folds. rows
// has a row for each build of the appends, except for builds that do not exist and
// whose appends are all fenced. keyed has the events that are stored under the
// appends' keys, without their data.
func Assign(appends []Append, rows map[string]*Row, keyed map[EventKey]buildcast.Event, now buildcast.Time) Assigned {
	a := Assigned{Appended: make([]Appended, len(appends))}
	for i, ap := range appends {
		row, out := rows[ap.BuildID], &a.Appended[i]
		if row == nil {
			out.Err = buildcast.Errorf(buildcast.Fenced, "build %s no longer exists, and lease %d has ended with it", ap.BuildID, ap.Generation)
			continue
		}
		if ap.Generation != 0 && ap.Generation != row.Generation {
			out.Err = buildcast.Errorf(buildcast.Fenced, "build %s has been taken over: lease %d has replaced %d", ap.BuildID, row.Generation, ap.Generation)
			out.Status = row.Status
			continue
		}
		a.add(row, ap, out, keyed, now)
	}
	for _, ap := range appends {
		if row := rows[ap.BuildID]; row != nil && row.changed {
			row.changed = false // once for each build
			a.Update = append(a.Update, row.Status)
		}
	}
	return a
}

// add folds the new events of one append into the row, and sets the append's answer.
// It adds the new keys to keyed, for the appends that follow.
func (a *Assigned) add(row *Row, ap Append, out *Appended, keyed map[EventKey]buildcast.Event, now buildcast.Time) {
	out.Events = make([]buildcast.Event, 0, len(ap.Events))
	repeats := 0
	for _, in := range ap.Events {
		key := EventKey{ap.BuildID, in.Key}
		if stored, ok := keyed[key]; ok && in.Key != "" {
			if repeats++; repeats == 1 {
				out.Added = slices.Clone(out.Events)
			}
			out.Events = append(out.Events, stored)
			continue
		}
		e := buildcast.Event{ID: row.Status.LastEventID + 1, BuildID: ap.BuildID, Type: in.Type, Data: in.Data, Timestamp: in.Timestamp}
		if e.Timestamp.IsZero() {
			e.Timestamp = now
		}
		row.Status.Apply(&e)
		row.changed = true
		out.Events = append(out.Events, e)
		if repeats > 0 {
			out.Added = append(out.Added, e)
		}
		a.Insert = append(a.Insert, Inserted{e, in.Key})
		if in.Key != "" {
			e.Data = nil // see Appended.Events
			keyed[key] = e
		}
	}
	if repeats == 0 {
		out.Added = out.Events
	}
	out.Status = row.Status
}
