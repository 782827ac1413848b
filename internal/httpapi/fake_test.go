package httpapi

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"sync"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// memory is a store in memory, as far as the API needs one.
type memory struct {
	mu     sync.Mutex
	builds map[string]*kept
	seq    int
	// dead is the last id of builds that were deleted.
	dead map[string]int64
	// failAppend and failRead, where set, are what the next calls give.
	failAppend, failRead error
	boundsStay           bool // failRead is not given by Bounds
	// appending, where set, is called before each transaction.
	appending func([]store.Append)
}

type kept struct {
	build  buildcast.Build
	asked  store.NewBuild
	events []buildcast.Event
	keys   map[string]int64
	seq    int
}

var (
	_ store.Appender = (*memory)(nil)
	_ store.Reader   = (*memory)(nil)
	_ store.Builds   = (*memory)(nil)
)

func newMemory() *memory {
	return &memory{builds: make(map[string]*kept), dead: make(map[string]int64)}
}

func (m *memory) add(b store.NewBuild) *kept {
	m.seq++
	now := buildcast.Now()
	k := &kept{asked: b, keys: make(map[string]int64), seq: m.seq, build: buildcast.Build{
		ID: b.ID, Project: b.Project, Prompt: b.Prompt, Plan: b.Plan, Deploy: b.Deploy, Options: b.Options,
		Status: buildcast.NewStatus(b.ID, b.Project, now), CreatedAt: now,
	}}
	k.build.Status.FirstEventID, k.build.Status.LastEventID = m.dead[b.ID]+1, m.dead[b.ID]
	m.builds[b.ID] = k
	return k
}

func (m *memory) AppendEvents(_ context.Context, appends []store.Append) ([]store.Appended, error) {
	if m.appending != nil {
		m.appending(appends)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failAppend != nil {
		return nil, m.failAppend
	}
	out := make([]store.Appended, len(appends))
	for i, a := range appends {
		k := m.builds[a.BuildID]
		if k == nil {
			k = m.add(store.NewBuild{ID: a.BuildID})
		}
		for _, e := range a.Events {
			last := len(k.events)
			out[i].Events = append(out[i].Events, k.append(e))
			if len(k.events) > last {
				out[i].Added = append(out[i].Added, k.events[last])
			}
		}
		out[i].Status = k.build.Status
	}
	return out, nil
}

func (k *kept) append(n buildcast.NewEvent) buildcast.Event {
	if id, ok := k.keys[n.Key]; ok && n.Key != "" {
		return k.events[id-k.events[0].ID]
	}
	e := buildcast.Event{ID: k.build.Status.LastEventID + 1, BuildID: k.build.ID, Type: n.Type, Data: n.Data, Timestamp: n.Timestamp}
	if e.Timestamp.IsZero() {
		e.Timestamp = buildcast.Now()
	}
	k.build.Status.Apply(&e)
	k.events = append(k.events, e)
	if n.Key != "" {
		k.keys[n.Key] = e.ID
	}
	return e
}

func (m *memory) ReadEvents(_ context.Context, id string, after int64, limit, maxBytes int) ([]buildcast.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failRead != nil {
		return nil, m.failRead
	}
	k := m.builds[id]
	if k == nil {
		return nil, nil
	}
	var out []buildcast.Event
	size := 0
	for _, e := range k.events {
		if e.ID <= after || e.ID < k.build.Status.FirstEventID {
			continue
		}
		if len(out) == limit || size > maxBytes {
			break
		}
		size += len(e.Data)
		out = append(out, e)
	}
	return out, nil
}

func (m *memory) Statuses(_ context.Context, ids []string) (map[string]buildcast.Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	statuses := make(map[string]buildcast.Status)
	for _, id := range ids {
		if k := m.builds[id]; k != nil {
			statuses[id] = k.build.Status
		}
	}
	return statuses, nil
}

func (m *memory) Bounds(_ context.Context, ids []string) (map[string]store.Bounds, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failRead != nil && !m.boundsStay {
		return nil, m.failRead
	}
	bounds := make(map[string]store.Bounds)
	for _, id := range ids {
		if k := m.builds[id]; k != nil {
			bounds[id] = store.Bounds{First: k.build.Status.FirstEventID, Last: k.build.Status.LastEventID}
		} else if last, ok := m.dead[id]; ok {
			bounds[id] = store.Bounds{First: last + 1, Last: last}
		}
	}
	return bounds, nil
}

func (m *memory) CreateBuild(_ context.Context, b store.NewBuild) (buildcast.Build, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	there := m.builds[b.ID]
	for _, k := range m.builds {
		if b.IdempotencyKey != "" && k.asked.IdempotencyKey == b.IdempotencyKey {
			there, b.ID = k, k.asked.ID
		}
	}
	if there == nil {
		return m.add(b).build, true, nil
	}
	if !reflect.DeepEqual(there.asked, b) {
		return buildcast.Build{}, false, buildcast.Errorf(buildcast.Conflict, "build %s exists and differs", b.ID).At("id")
	}
	return there.build, false, nil
}

func (m *memory) GetBuild(_ context.Context, id string) (buildcast.Build, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.builds[id]; k != nil {
		return k.build, nil
	}
	return buildcast.Build{}, buildcast.Errorf(buildcast.NotFound, "there is no build %s", id)
}

func (m *memory) ListBuilds(_ context.Context, f store.Filter) (store.Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.seq + 1
	if f.Before != "" {
		n, err := strconv.Atoi(f.Before)
		if err != nil {
			return store.Page{}, buildcast.Errorf(buildcast.InvalidArgument, "before is not a next").At("before")
		}
		before = n
	}
	newest := slices.SortedFunc(maps.Values(m.builds), func(a, b *kept) int { return cmp.Compare(b.seq, a.seq) })
	var page store.Page
	for _, k := range newest {
		if k.seq >= before || f.Phase != "" && k.build.Status.Phase != f.Phase || f.Project != "" && k.build.Project != f.Project {
			continue
		}
		if len(page.Statuses) == f.Limit {
			page.Next = strconv.Itoa(before)
			break
		}
		page.Statuses = append(page.Statuses, k.build.Status)
		before = k.seq
	}
	return page, nil
}

func (m *memory) DeleteBuild(_ context.Context, id string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.builds[id]
	switch {
	case k == nil:
		return 0, buildcast.Errorf(buildcast.NotFound, "there is no build %s", id)
	case !k.build.Status.Phase.Terminal():
		return 0, buildcast.Errorf(buildcast.NotFinished, "build %s is %s: cancel it first", id, k.build.Status.Phase)
	}
	delete(m.builds, id)
	m.dead[id] = k.build.Status.LastEventID
	return m.dead[id] + 1, nil
}

func (m *memory) TruncateLog(_ context.Context, id string, first int64) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.builds[id].build.Status.FirstEventID = first
	return first, nil
}

func (m *memory) Purge(context.Context, int) (bool, error) { return false, nil }

func (m *memory) fail(appends, reads error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failAppend, m.failRead = appends, reads
}

// events is the build's log as it is stored.
func (m *memory) events(id string) []buildcast.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.builds[id]; k != nil {
		return slices.Clone(k.events)
	}
	return nil
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
