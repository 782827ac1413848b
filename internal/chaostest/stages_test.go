package chaostest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pgtest"
)

// point is a moment of the flow at which the server is killed.
type point struct {
	name string
	few  bool // also on Postgres
	// One of these says when it is.
	typ, data string // an event is stored, and the next step is held
	running   string // the step runs, and is held
	ended     string // the step has ended, and nothing of that can be stored (SQLite)
	next      string // and the next step has begun; empty: nothing runs
	request   string // the fake was asked
	served    bool   // and has done it
}

// points are in the order of the flow.
var points = []point{
	{name: "before planning", typ: buildcast.PlanStarted},
	{name: "while planning", running: "plan", few: true},
	{name: "between the plan's answer and its being stored", ended: "plan"},
	{name: "between planning and the tasks", typ: buildcast.PlanGenerated},
	{name: "while files are planned", running: "files"},
	{name: "between the files' answer and its being stored", ended: "files"},
	{name: "between two tasks", typ: buildcast.TaskCompleted, data: `"taskName":"page"`},
	{name: "in a task", running: "check", few: true},
	{name: "between a task's end and its being stored", ended: "check", next: "install"},
	{name: "between the tasks and install", typ: buildcast.BuildStarted},
	{name: "in install", running: "install", few: true},
	{name: "between install's end and its being stored", ended: "install", next: "build"},
	{name: "between install and build", typ: buildcast.BuildProgress, data: `"message":"Installed"`},
	{name: "in build", running: "build", few: true},
	{name: "between build's end and its being stored", ended: "build"},
	{name: "between build and the upload", request: "GET upload-token"},
	{name: "in the upload", request: "POST upload", few: true},
	{name: "after the upload", request: "POST upload", served: true},
	{name: "before the deployment", request: "POST deployments"},
	{name: "between the deployment and its answer", request: "POST deployments", served: true, few: true},
	{name: "while waiting for the deployment", request: "GET d1", few: true},
	{name: "after the end", typ: buildcast.DeployCompleted, few: true},
}

// The server is killed with SIGKILL in each stage of one build and between each two.
func TestKillInEachStageOnSQLite(t *testing.T) {
	killInStages(t, "", func(point) bool { return true })
	if os.Getenv("BUILDCAST_CHAOS_ROUNDS") == "" {
		return
	}
	for _, only := range points {
		t.Run(only.name, func(t *testing.T) { killInStages(t, "", func(p point) bool { return p == only }) })
	}
}

func TestKillInStagesOnPostgres(t *testing.T) {
	killInStages(t, pgtest.URL(t), func(p point) bool { return p.few })
}

// killInStages kills the server at the chosen points of one build.
func killInStages(t *testing.T, database string, chosen func(point) bool) {
	f := newFlow(t, database, true)
	holds := map[point]*hold{}
	for _, p := range points {
		if p.request != "" && chosen(p) {
			holds[p] = f.holdAt(p.request, p.served)
		}
	}
	id := f.id + "-1"
	f.create(id)
	for _, p := range points {
		if !chosen(p) {
			if p.ended != "" {
				f.waitFor(p.ended)
				f.free(p.ended)
			}
			continue
		}
		t.Log("killed", p.name)
		release := f.reach(id, p, holds[p])
		f.n.kill()
		release()
		f.start()
	}
	f.check(id)
	f.checkNothingIsLeft()
}

// reach returns at the point. Release is called when the server is dead.
func (f *flow) reach(id string, p point, h *hold) (release func()) {
	f.t.Helper()
	switch {
	case p.typ != "":
		f.see(id, p.typ, p.data)
	case p.running != "":
		f.waitFor(p.running)
	case p.ended != "":
		return f.reachEnd(p)
	case h != nil:
		select {
		case <-h.reached:
		case <-time.After(2 * time.Minute):
			f.t.Fatalf("waited two minutes for %s", p.request)
		}
		return h.end
	}
	return func() {}
}

// waitFor waits until the step runs.
func (f *flow) waitFor(step string) {
	f.t.Helper()
	waitUntil(f.t, step+" runs", func() bool { return f.count("begin", step) > f.before[step] })
}

func (f *flow) reachEnd(p point) (release func()) {
	f.t.Helper()
	f.waitFor(p.ended)
	release = f.n.lock(f.t)
	kept := f.n.kept()
	f.free(p.ended)
	waitUntil(f.t, p.ended+" has ended", func() bool { return f.count("end", p.ended) > 0 })
	switch {
	case p.ended == "plan" || p.ended == "files":
		waitUntil(f.t, "the answer is kept", func() bool { return f.n.kept() > kept })
	case p.next != "":
		f.waitFor(p.next)
	default:
		f.waitForNone("process", f.processes)
	}
	return release
}

// The server is killed at random moments of whole builds: seeded, but what it does at
// that moment is up to the machine.
func TestKillAtRandomMoments(t *testing.T) {
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("BUILDCAST_CHAOS_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("BUILDCAST_CHAOS_SEED=%d", seed)
	moments := rand.New(rand.NewPCG(seed, 0))
	f := newFlow(t, "", false)
	began := time.Now()
	f.create(f.id + "-whole")
	f.check(f.id + "-whole")
	whole := time.Since(began)
	for i := range rounds(t, 1) {
		id := f.id + "-" + strconv.Itoa(i)
		at := time.Duration(moments.Float64() * float64(whole))
		f.forget()
		f.create(id)
		pause(at)
		st, _ := f.c.Status(t.Context(), id)
		f.n.kill()
		f.start()
		t.Logf("%s: killed after %v of about %v, %s", id, at.Round(time.Millisecond), whole.Round(time.Millisecond), st.Phase)
		f.check(id)
	}
	f.checkNothingIsLeft()
}
