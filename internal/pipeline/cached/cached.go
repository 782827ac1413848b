// Package cached runs the commands of a build, or puts back what another build's command
// has made of the same inputs: the command's outputs, and what it printed.
//
// A result is kept only if it follows from the key: if the command has declared its
// outputs, and changed nothing besides them that anybody reads. A failure of the cache
// is a miss, and never one of the build.
package cached

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/cache/archive"
	"github.com/buildcast/buildcast/internal/pipeline/inputs"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/runner"
)

// Config is what is needed of a build and of the server.
type Config struct {
	Build    *buildcast.Build // it has its plan when the first step is made
	Root     *os.Root         // of the workspace
	Cache    *cache.Cache     // nil: everything runs, and nothing is kept
	Platform *inputs.Platform // of commands
	Sandbox  string           // that commands run in
	Journal  *report.Journal
	Log      *slog.Logger
}

// Results are the results of one build's commands: kept for other builds, and taken from
// them. They may be used from many goroutines.
type Results struct {
	Config
	inputs *inputs.Taker
}

// New returns the results of a build.
func New(c Config) *Results { return &Results{c, inputs.New(c.Root)} }

// Step is a command whose outputs may be cached: a task's, or a stage's.
type Step struct {
	kind, name string // of its entries and records
	from       report.Source
	unfit      string // why it is not cached; empty: it is
	env        map[string]string

	key    *cache.Key
	before *inputs.Snapshot
	// interest says what the command may read, and so what must not change while it
	// runs, except its outputs.
	interest func(name string, dir bool) inputs.Interest
	// strict says that the command must make no files besides its outputs: a later step
	// could read them.
	strict bool
	// outputs returns what the command has made.
	outputs func() ([]string, error)
	// stale returns what is removed before its result is restored, besides what that has.
	stale func() ([]string, error)
	// fresh says that no outputs existed before.
	fresh bool
	// meta goes with the entry.
	meta map[string]string

	done func() // ends its turn; nil: it has none
	hit  *cache.Entry
}

// The names of an entry's blobs, and of what goes with it.
const (
	outputsBlob = "outputs" // an archive
	logBlob     = "log"     // a tape as JSON
	outputsMeta = "outputs" // their names as JSON
	installMeta = "installMs"
)

// maxLog bounds a stored tape, in bytes: the output of one command is at most 1 MiB,
// and no byte takes more than six as JSON.
const maxLog = 8 << 20

// Run runs the step's command, unless another build has run the same with the same
// inputs: then it restores what that made.
func (r *Results) Run(ctx context.Context, s *Step, command func() error) (report.Reused, error) {
	defer s.release()
	if found, err := r.lookUp(ctx, s); found.Cached || err != nil {
		return found, err
	}
	began, stop := time.Now(), r.Journal.Record(s.from)
	err := command()
	printed := stop()
	if err == nil && s.unfit == "" {
		r.keep(ctx, s, time.Since(began), printed)
	}
	return report.Reused{}, err
}

// lookUp restores the step's result if it is in the cache. Otherwise it takes the
// key's turn: while another build does the same work, it waits. An error is the cause
// of ctx's end. A failure of the cache is a miss.
func (r *Results) lookUp(ctx context.Context, s *Step) (report.Reused, error) {
	if s.unfit != "" || s.done != nil {
		r.note(ctx, s)
		return report.Reused{}, nil
	}
	c, scope := r.Cache, r.scope()
	defer r.note(ctx, s)
	if r.Build.NoCache {
		return report.Reused{}, nil
	}
	if found := r.restore(ctx, s, c.Get(scope, s.key)); found.Cached || ctx.Err() != nil {
		return found, context.Cause(ctx)
	}
	done, err := c.Turn(ctx, s.key.In(scope), r.Build.ID, func(other string) {
		r.Journal.Output(s.from, []string{fmt.Sprintf("[build %s runs the same command with the same inputs: waiting for its result]", other)})
	})
	if err != nil {
		return report.Reused{}, err
	}
	s.done = done
	found := r.restore(ctx, s, c.Get(scope, s.key))
	return found, context.Cause(ctx)
}

// release ends the step's turn, if it has one.
func (s *Step) release() {
	if s.done != nil {
		s.done()
	}
}

// scope is whose results the build may use.
func (r *Results) scope() cache.Scope {
	return cache.Scope{Org: "default", Project: r.Build.Project, Planned: r.Build.Planned()}
}

// restore puts the entry's outputs in their place and replays its log. If it cannot,
// it leaves none of the outputs.
func (r *Results) restore(ctx context.Context, s *Step, e *cache.Entry) report.Reused {
	if e == nil {
		return report.Reused{}
	}
	began := time.Now()
	printed, err := r.readLog(ctx, e)
	if err == nil {
		r.note(ctx, s) // now: after a kill, startOver removes what was restored
		err = r.unpack(ctx, s, e)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.Log.Warn("a cached result cannot be restored: the command runs", "step", s.name, "error", err)
		}
		return report.Reused{}
	}
	s.hit = e
	r.Journal.Replay(s.from, printed)
	return report.Reused{Cached: true, OriginBuildID: e.BuildID, SavedMS: max(0, e.DurationMS-time.Since(began).Milliseconds())}
}

func (r *Results) unpack(ctx context.Context, s *Step, e *cache.Entry) error {
	var names []string
	if err := json.Unmarshal([]byte(e.Meta[outputsMeta]), &names); err != nil {
		return err
	}
	content, err := r.Cache.Content(ctx, e, outputsBlob)
	if err != nil {
		return err
	}
	defer content.Close()
	stale, err := s.stale()
	if err == nil {
		err = archive.Remove(r.Root, stale)
	}
	if err == nil {
		_, err = archive.Unpack(ctx, content, r.Root, names, archive.Limits{})
	}
	if err != nil && ctx.Err() == nil && !cache.Full(err) {
		r.Cache.Drop(e)
	}
	return err
}

func (r *Results) readLog(ctx context.Context, e *cache.Entry) (printed report.Tape, err error) {
	content, err := r.Cache.Content(ctx, e, logBlob)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	b, err := io.ReadAll(io.LimitReader(content, maxLog))
	if err != nil {
		return nil, err
	}
	return printed, json.Unmarshal(b, &printed)
}

// keep stores what the command made, if it depends on nothing but the key.
func (r *Results) keep(ctx context.Context, s *Step, took time.Duration, printed report.Tape) {
	err := r.store(ctx, s, took, printed)
	switch {
	case err == nil || ctx.Err() != nil:
		return
	case cache.Full(err):
		r.Log.Warn("the cache has no room for a result", "step", s.name, "error", err)
		s.unfit = "the cache has no room for its outputs"
	default:
		s.unfit = runner.Clean(err.Error())
	}
	r.Journal.Output(s.from, []string{"[not kept in the cache: " + s.unfit + "]"})
	r.note(ctx, s)
}

func (r *Results) store(ctx context.Context, s *Step, took time.Duration, printed report.Tape) error {
	names, err := s.outputs()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errors.New("it has made nothing")
	}
	made := func(name string) bool { return below(name, names) }
	after, err := r.inputs.Take(ctx, func(name string, dir bool) inputs.Interest {
		if made(name) {
			return inputs.Skip
		}
		return min(inputs.Watch, s.interest(name, dir))
	})
	if err != nil {
		return err
	}
	if name := s.before.Changed(after, s.strict, made); name != "" {
		return fmt.Errorf("%q changed while it ran, and is not one of its outputs", name)
	}
	list, err := json.Marshal(names)
	if err != nil {
		return err
	}
	log, err := json.Marshal(printed)
	if err != nil {
		return err
	}
	e := cache.Entry{Kind: s.kind, Name: s.name, BuildID: r.Build.ID, DurationMS: took.Milliseconds(), Meta: map[string]string{outputsMeta: string(list)}}
	maps.Copy(e.Meta, s.meta)
	pack := func(w io.Writer) error {
		_, err := archive.Pack(ctx, w, r.Root, names, archive.Limits{})
		return err
	}
	c, scope := r.Cache, r.scope()
	err = c.Put(ctx, scope, s.key, e, map[string]cache.Source{outputsBlob: pack, logBlob: cache.Bytes(log)}, r.Build.NoCache)
	if err == nil {
		err = c.Kept(scope, r.Build.ID, s.name)
	}
	return err
}

// note keeps for buildcast cache why what is known of the step.
func (r *Results) note(ctx context.Context, s *Step) {
	c := r.Cache
	if c == nil {
		return
	}
	record := cache.Record{BuildID: r.Build.ID, Scope: r.scope(), Name: s.name, Note: s.unfit, Fresh: s.fresh}
	if s.hit != nil {
		record.Cached, record.Origin = true, s.hit.BuildID
	}
	if r.Build.NoCache && s.unfit == "" {
		record.Note = "the build was started with --no-cache"
	}
	err := c.Note(context.WithoutCancel(ctx), record, s.key)
	if err == nil && s.hit != nil {
		err = c.Kept(r.scope(), r.Build.ID, s.name)
	}
	if err != nil {
		r.Log.Info("the cache does not keep a record of the build", "step", s.name, "error", err)
	}
}

// begin takes the snapshot of the step's inputs and begins its key. outputs are those
// that are known before. What cannot be read makes the step unfit.
func (r *Results) begin(ctx context.Context, s *Step, outputs []string) {
	if r.Cache == nil {
		s.unfit = cmp.Or(s.unfit, noCache)
	}
	if s.unfit != "" {
		return
	}
	err := r.startOver(s, outputs)
	if err == nil && s.before == nil {
		s.before, err = r.inputs.Take(ctx, s.interest)
	}
	if err != nil {
		s.unfit = "its inputs cannot be read: " + runner.Clean(err.Error())
		return
	}
	s.fresh = !slices.ContainsFunc(s.before.Names(), func(name string) bool { return below(name, outputs) })
	s.key = &cache.Key{}
	s.key.Add(cache.PartOther, "step", s.kind)
	s.key.Add(cache.PartPlatform, "sandbox", r.Sandbox)
	r.Platform.AddTo(ctx, s.key)
	for name, value := range s.env {
		s.key.AddHidden(cache.PartEnv, name, value)
	}
}

// Task returns the task's command as a step. Its files are written already: they
// are inputs too.
func (r *Results) Task(ctx context.Context, t *buildcast.Task) *Step {
	s := &Step{
		kind: cache.KindTask, name: t.Name, from: report.Source{TaskName: t.Name}, unfit: cache.WhyTask(r.Build.Plan, t), strict: true,
		env: merged(r.Build.Plan.Env, t.Env), interest: taskInterest(r.Build.Plan, t), outputs: always(t.Outputs), stale: always(t.Outputs),
	}
	if r.begin(ctx, s, t.Outputs); s.unfit == "" {
		s.before.AddTo(s.key, all)
		s.key.AddHidden(cache.PartCommand, "", t.Run)
		s.key.Add(cache.PartOutputs, "", strings.Join(t.Outputs, "\n"))
	}
	return s
}

func always(names []string) func() ([]string, error) {
	return func() ([]string, error) { return names, nil }
}

func all(string) bool { return true }

// noCache is why nothing is cached on a server without a cache.
const noCache = "this server has no cache"

// startOver removes what an earlier attempt of this build has left of the outputs: it
// would count as inputs.
func (r *Results) startOver(s *Step, outputs []string) error {
	if before, ok := r.Cache.Record(r.Build.ID, s.name); ok && before.Fresh {
		return archive.Remove(r.Root, outputs)
	}
	return nil
}

// merged returns the variables of both; those of the task count.
func merged(plan, task map[string]string) map[string]string {
	both := make(map[string]string, len(plan)+len(task))
	maps.Copy(both, plan)
	maps.Copy(both, task)
	return both
}

// below reports whether the name is one of the paths, or below one.
func below(name string, paths []string) bool {
	for _, p := range paths {
		if name == p || strings.HasPrefix(name, p) && name[len(p)] == '/' {
			return true
		}
	}
	return false
}
