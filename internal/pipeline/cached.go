package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/cache/archive"
	"github.com/buildcast/buildcast/internal/egress"
	"github.com/buildcast/buildcast/internal/pipeline/inputs"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/runner"
)

// cacheable is a command whose outputs may be cached: a task's, or a stage's.
type cacheable struct {
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
	// prepare, unless it is nil, is called before the command runs.
	prepare func(context.Context)
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

// runCached runs the command, unless another build has run the same with the same
// inputs: then it restores what that made. The network is open to the command as far as
// access says.
func (r *run) runCached(ctx context.Context, s *cacheable, c runner.Spec, access egress.Access) (report.Reused, error) {
	defer s.release()
	if found, err := r.lookUp(ctx, s); found.Cached || err != nil {
		return found, err
	}
	if s.prepare != nil {
		s.prepare(ctx)
	}
	began, stop := time.Now(), r.journal.Record(s.from)
	err := r.runCommand(ctx, c, access)
	printed := stop()
	if err == nil && s.unfit == "" {
		r.keep(ctx, s, time.Since(began), printed)
	}
	return report.Reused{}, err
}

// lookUp restores the step's result if it is in the cache. Otherwise it takes the
// key's turn: while another build does the same work, it waits. An error is the cause
// of ctx's end. A failure of the cache is a miss.
func (r *run) lookUp(ctx context.Context, s *cacheable) (report.Reused, error) {
	if s.unfit != "" || s.done != nil {
		r.note(ctx, s)
		return report.Reused{}, nil
	}
	c, scope := r.pipeline.config.Cache, r.scope()
	defer r.note(ctx, s)
	if r.build.NoCache {
		return report.Reused{}, nil
	}
	if found := r.restore(ctx, s, c.Get(scope, s.key)); found.Cached || ctx.Err() != nil {
		return found, context.Cause(ctx)
	}
	done, err := c.Turn(ctx, s.key.In(scope), r.build.ID, func(other string) {
		r.journal.Output(s.from, []string{fmt.Sprintf("[build %s runs the same command with the same inputs: waiting for its result]", other)})
	})
	if err != nil {
		return report.Reused{}, err
	}
	s.done = done
	found := r.restore(ctx, s, c.Get(scope, s.key))
	return found, context.Cause(ctx)
}

// release ends the step's turn, if it has one.
func (s *cacheable) release() {
	if s.done != nil {
		s.done()
	}
}

// scope is whose results the build may use.
func (r *run) scope() cache.Scope {
	return cache.Scope{Org: "default", Project: r.build.Project, Planned: r.build.Planned()}
}

// restore puts the entry's outputs in their place and replays its log. If it cannot,
// it leaves none of the outputs.
func (r *run) restore(ctx context.Context, s *cacheable, e *cache.Entry) report.Reused {
	if e == nil {
		return report.Reused{}
	}
	began := time.Now()
	printed, err := r.readLog(ctx, e)
	if err == nil {
		err = r.unpack(ctx, s, e)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.log.Warn("a cached result cannot be restored: the command runs", "step", s.name, "error", err)
		}
		return report.Reused{}
	}
	s.hit = e
	r.journal.Replay(s.from, printed)
	return report.Reused{Cached: true, OriginBuildID: e.BuildID, SavedMS: max(0, e.DurationMS-time.Since(began).Milliseconds())}
}

func (r *run) unpack(ctx context.Context, s *cacheable, e *cache.Entry) error {
	var names []string
	if err := json.Unmarshal([]byte(e.Meta[outputsMeta]), &names); err != nil {
		return err
	}
	content, err := r.pipeline.config.Cache.Content(ctx, e, outputsBlob)
	if err != nil {
		return err
	}
	defer content.Close()
	stale, err := s.stale()
	if err == nil {
		err = archive.Remove(r.space.Root(), stale)
	}
	if err == nil {
		_, err = archive.Unpack(ctx, content, r.space.Root(), names, archive.Limits{})
	}
	if err != nil && ctx.Err() == nil && !cache.Full(err) {
		r.pipeline.config.Cache.Drop(e)
	}
	return err
}

func (r *run) readLog(ctx context.Context, e *cache.Entry) (printed report.Tape, err error) {
	content, err := r.pipeline.config.Cache.Content(ctx, e, logBlob)
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
func (r *run) keep(ctx context.Context, s *cacheable, took time.Duration, printed report.Tape) {
	err := r.store(ctx, s, took, printed)
	switch {
	case err == nil || ctx.Err() != nil:
		return
	case cache.Full(err):
		r.log.Warn("the cache has no room for a result", "step", s.name, "error", err)
		s.unfit = "the cache has no room for its outputs"
	default:
		s.unfit = runner.Clean(err.Error())
	}
	r.journal.Output(s.from, []string{"[not kept in the cache: " + s.unfit + "]"})
	r.note(ctx, s)
}

func (r *run) store(ctx context.Context, s *cacheable, took time.Duration, printed report.Tape) error {
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
	e := cache.Entry{Kind: s.kind, Name: s.name, BuildID: r.build.ID, DurationMS: took.Milliseconds(), Meta: map[string]string{outputsMeta: string(list)}}
	maps.Copy(e.Meta, s.meta)
	pack := func(w io.Writer) error {
		_, err := archive.Pack(ctx, w, r.space.Root(), names, archive.Limits{})
		return err
	}
	c, scope := r.pipeline.config.Cache, r.scope()
	err = c.Put(ctx, scope, s.key, e, map[string]cache.Source{outputsBlob: pack, logBlob: cache.Bytes(log)}, r.build.NoCache)
	if err == nil {
		err = c.Kept(scope, r.build.ID, s.name)
	}
	return err
}

// note keeps for buildcast cache why what is known of the step.
func (r *run) note(ctx context.Context, s *cacheable) {
	c := r.pipeline.config.Cache
	if c == nil {
		return
	}
	record := cache.Record{BuildID: r.build.ID, Scope: r.scope(), Name: s.name, Note: s.unfit, Fresh: s.fresh}
	if s.hit != nil {
		record.Cached, record.Origin = true, s.hit.BuildID
	}
	if r.build.NoCache && s.unfit == "" {
		record.Note = "the build was started with --no-cache"
	}
	err := c.Note(context.WithoutCancel(ctx), record, s.key)
	if err == nil && s.hit != nil {
		err = c.Kept(r.scope(), r.build.ID, s.name)
	}
	if err != nil {
		r.log.Info("the cache does not keep a record of the build", "step", s.name, "error", err)
	}
}

// begin takes the snapshot of the step's inputs and begins its key. outputs are those
// that are known before. What cannot be read makes the step unfit.
func (r *run) begin(ctx context.Context, s *cacheable, outputs []string) {
	if r.pipeline.config.Cache == nil {
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
	s.key.Add(cache.PartPlatform, "sandbox", r.pipeline.config.Runner.Sandbox())
	r.pipeline.platform.AddTo(ctx, s.key)
	for name, value := range s.env {
		s.key.AddHidden(cache.PartEnv, name, value)
	}
}

// taskStep returns the task's command as a step. Its files are written already: they
// are inputs too.
func (r *run) taskStep(ctx context.Context, t *buildcast.Task) *cacheable {
	s := &cacheable{
		kind: cache.KindTask, name: t.Name, from: report.Source{TaskName: t.Name}, unfit: cache.WhyTask(r.build.Plan, t), strict: true,
		env: merged(r.build.Plan.Env, t.Env), interest: taskInterest(r.build.Plan, t), outputs: always(t.Outputs), stale: always(t.Outputs),
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
func (r *run) startOver(s *cacheable, outputs []string) error {
	if before, ok := r.pipeline.config.Cache.Record(r.build.ID, s.name); ok && before.Fresh {
		return archive.Remove(r.space.Root(), outputs)
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
