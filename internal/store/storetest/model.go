package storetest

import (
	"slices"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// model is the simplest store: it keeps every log and folds it anew in each call.
type model struct {
	builds  map[string]*modelBuild
	deleted map[string]*modelBuild
}

type modelBuild struct {
	new        store.NewBuild
	created    buildcast.Time
	before     int64             // the last id before this fold
	log        []buildcast.Event // of this fold, whether kept or cut off
	first      int64             // that is kept
	ids        map[string]int64  // by key
	owner      string
	held       bool // its lease has not ended
	generation int64
}

func (b *modelBuild) status() buildcast.Status {
	st := buildcast.NewStatus(b.new.ID, b.new.Project, b.created)
	st.LastEventID = b.before
	for _, e := range b.log {
		st.Apply(&e)
	}
	st.FirstEventID = b.first
	return st
}

func (b *modelBuild) last() int64 { return b.before + int64(len(b.log)) }

// at returns the event with the id.
func (b *modelBuild) at(id int64) buildcast.Event { return b.log[id-b.before-1] }

func (b *modelBuild) build() buildcast.Build {
	return buildcast.Build{
		ID: b.new.ID, Project: b.new.Project, Prompt: b.new.Prompt, Plan: b.new.Plan, Deploy: b.new.Deploy, Options: b.new.Options,
		Status: b.status(), CreatedAt: b.created,
	}
}

// missing returns the ids of the builds that the appends would create. A fenced append
// creates none.
func (m *model) missing(appends []store.Append) []string {
	var ids []string
	for _, a := range appends {
		if m.builds[a.BuildID] == nil && a.Generation == 0 && !slices.Contains(ids, a.BuildID) {
			ids = append(ids, a.BuildID)
		}
	}
	return ids
}

func (m *model) add(b store.NewBuild, created buildcast.Time) {
	n := &modelBuild{new: b, created: created, ids: map[string]int64{}, first: 1}
	if old := m.deleted[b.ID]; old != nil {
		n.before, n.first, n.generation = old.last(), old.last()+1, old.generation+1
		delete(m.deleted, b.ID)
	}
	m.builds[b.ID] = n
}

// appendEvents expects the builds of all appends that are not fenced to exist.
func (m *model) appendEvents(appends []store.Append) []store.Appended {
	answers := make([]store.Appended, len(appends))
	for i, a := range appends {
		b := m.builds[a.BuildID]
		if b == nil {
			answers[i].Err = buildcast.Errorf(buildcast.Fenced, "gone")
			continue
		}
		if a.Generation != 0 && a.Generation != b.generation {
			answers[i] = store.Appended{Status: b.status(), Err: buildcast.Errorf(buildcast.Fenced, "fenced")}
			continue
		}
		answers[i].Events = []buildcast.Event{}
		answers[i].Added = []buildcast.Event{}
		for _, e := range a.Events {
			last := b.last()
			stored := b.append(e)
			if stored.ID > last {
				answers[i].Added = append(answers[i].Added, stored)
			} else {
				stored.Data = nil
			}
			answers[i].Events = append(answers[i].Events, stored)
		}
		answers[i].Status = b.status()
	}
	return answers
}

func (b *modelBuild) append(in buildcast.NewEvent) buildcast.Event {
	if id, ok := b.ids[in.Key]; ok && in.Key != "" && id >= b.first {
		return b.at(id)
	}
	e := buildcast.Event{ID: b.last() + 1, BuildID: b.new.ID, Type: in.Type, Data: in.Data, Timestamp: in.Timestamp}
	st := b.status()
	st.Apply(&e)
	b.log = append(b.log, e)
	b.ids[in.Key] = e.ID
	return e
}

// there returns the existing build that a creation finds.
func (m *model) there(in store.NewBuild) *modelBuild {
	if b := m.builds[in.ID]; b != nil {
		return b
	}
	for _, b := range m.builds {
		if in.IdempotencyKey != "" && b.new.IdempotencyKey == in.IdempotencyKey {
			return b
		}
	}
	return nil
}

func (b *modelBuild) matches(in store.NewBuild) bool {
	return b.new.Project == in.Project && b.new.Prompt == in.Prompt && b.new.Deploy == in.Deploy && b.new.Options == in.Options &&
		(in.Plan == nil && in.Prompt != "" || diff(b.new.Plan, in.Plan) == "")
}

func (m *model) read(id string, after int64, limit int) []buildcast.Event {
	b := m.builds[id]
	if b == nil || after >= b.last() {
		return nil
	}
	events := b.log[max(after, b.first-1)-b.before:]
	return events[:min(limit, len(events))]
}

// oldest returns the builds in the order of their creation.
func (m *model) oldest() []*modelBuild {
	var all []*modelBuild
	for _, b := range m.builds {
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b *modelBuild) int { return older(a.build(), b.build()) })
	return all
}

func (m *model) list(f store.Filter) []string {
	var ids []string
	for _, b := range slices.Backward(m.oldest()) {
		if (f.Phase == "" || b.status().Phase == f.Phase) && (f.Project == "" || b.new.Project == f.Project) {
			ids = append(ids, b.new.ID)
		}
	}
	return ids
}

func (m *model) delete(id string) buildcast.Code {
	b := m.builds[id]
	switch {
	case b == nil:
		return buildcast.NotFound
	case !b.status().Phase.Terminal():
		return buildcast.NotFinished
	}
	m.deleted[id] = b
	delete(m.builds, id)
	return ""
}

func (m *model) truncate(id string, first int64) (int64, buildcast.Code) {
	b := m.builds[id]
	switch {
	case b == nil:
		return 0, buildcast.NotFound
	case first > b.last()+1:
		return 0, buildcast.InvalidArgument
	}
	b.first = max(b.first, first)
	return b.first, ""
}

func (m *model) bounds(id string) (store.Bounds, bool) {
	if b := m.builds[id]; b != nil {
		return store.Bounds{First: b.first, Last: b.last()}, true
	}
	if b := m.deleted[id]; b != nil {
		return store.Bounds{First: b.last() + 1, Last: b.last()}, true
	}
	return store.Bounds{}, false
}

func (m *model) claim(owner string, ttl time.Duration, limit int, except []string) []store.Lease {
	leases := []store.Lease{}
	for _, b := range m.oldest() {
		if len(leases) == limit {
			break
		}
		if b.new.Plan == nil && b.new.Prompt == "" || b.held || b.status().Phase.Terminal() || slices.Contains(except, b.new.ID) {
			continue
		}
		b.owner, b.held = owner, ttl > 0
		b.generation++
		leases = append(leases, store.Lease{BuildID: b.new.ID, Owner: owner, Generation: b.generation})
	}
	return leases
}

func (m *model) renew(l store.Lease, ttl time.Duration) buildcast.Code {
	b := m.builds[l.BuildID]
	switch {
	case b == nil:
		return buildcast.NotFound
	case b.generation != l.Generation:
		return buildcast.Fenced
	}
	b.owner, b.held = l.Owner, ttl > 0
	return ""
}

func (m *model) savePlan(l store.Lease, plan *buildcast.Plan) buildcast.Code {
	b := m.builds[l.BuildID]
	switch {
	case b == nil:
		return buildcast.NotFound
	case b.generation != l.Generation:
		return buildcast.Fenced
	case b.new.Plan == nil:
		b.new.Plan = plan
	}
	return ""
}

func (m *model) release(owner string) {
	for _, b := range m.builds {
		if b.owner == owner {
			b.owner, b.held = "", false
		}
	}
}
