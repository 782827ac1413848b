package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/detect"
	"github.com/buildcast/buildcast/internal/pipeline/inputs"
	"github.com/buildcast/buildcast/internal/pipeline/report"
)

// stageSteps are the stages as steps. Their inputs are those before install: if the
// build stage is in the cache, install need not run.
type stageSteps struct {
	build, install *cacheable
	buildScript    string // that build was made for
}

func (s stageSteps) release() {
	for _, step := range []*cacheable{s.build, s.install} {
		if step != nil {
			step.release()
		}
	}
}

// of returns the step of the stage.
func (s stageSteps) of(which stage) *cacheable {
	switch {
	case which.name == report.Install && s.install != nil:
		return s.install
	case which.name == report.Build && s.build != nil && s.buildScript == which.script:
		return s.build
	}
	return &cacheable{name: cache.StageName(which.name), from: report.Source{Stage: which.name}, unfit: "install has brought another command"}
}

// took has the build's entry know how long install took.
func (s stageSteps) took(which stage, ms int64) {
	if which.name == report.Install && s.build != nil {
		s.build.meta = map[string]string{installMeta: strconv.FormatInt(ms, 10)}
	}
}

// origin returns the entry that the step was restored from, or an empty one.
func (s *cacheable) origin() *cache.Entry {
	if s.hit != nil {
		return s.hit
	}
	return &cache.Entry{}
}

// modules is the directory in which package managers put what they install.
const modules = "node_modules"

// stageSteps makes the steps of the stages that are to run.
func (r *run) stageSteps(ctx context.Context, install stage) (steps stageSteps) {
	plan := r.build.Plan
	build, err := r.buildStage()
	if err != nil || r.over(build) && r.over(install) {
		return steps
	}
	steps.buildScript = build.script
	steps.install = r.stageStep(install, cache.WhyInstall(plan, install.script))
	steps.build = r.stageStep(build, cache.WhyBuild(plan, install.script))
	steps.install.strict = true
	if install.script != "" {
		r.needLock(steps, install.script)
	}
	without := func(name string, _ bool) inputs.Interest {
		if install.script != "" && path.Base(name) == modules || strings.HasPrefix(path.Base(name), temporary) {
			return inputs.Skip
		}
		return inputs.Hash
	}
	steps.install.interest, steps.build.interest = without, without
	steps.install.outputs, steps.install.stale = r.findModules(ctx), r.findModules(ctx)
	steps.build.outputs, steps.build.stale = r.findOutput, always(nil)

	var outputs []string
	if plan.Output != "" {
		outputs = []string{path.Clean(plan.Output)}
	}
	if build.script != "" {
		r.begin(ctx, steps.build, outputs)
	}
	steps.install.before = steps.build.before
	if install.script != "" {
		r.begin(ctx, steps.install, nil)
	}
	if s := steps.install; s.key != nil {
		s.before.AddTo(s.key, r.installInputs(s.before))
		s.key.AddHidden(cache.PartCommand, "", install.script)
	}
	if s := steps.build; s.key != nil {
		s.before.AddTo(s.key, all)
		s.key.AddHidden(cache.PartCommand, "", build.script)
		s.key.AddHidden(cache.PartCommand, report.Install, install.script)
		s.key.Add(cache.PartOutputs, "", plan.Output)
	}
	return steps
}

func (r *run) stageStep(s stage, unfit string) *cacheable {
	return &cacheable{kind: cache.KindStage, name: cache.StageName(s.name), from: report.Source{Stage: s.name}, unfit: unfit, env: r.build.Plan.Env}
}

// needLock makes the steps unfit if what the install command brings is not fixed by a
// lock file.
func (r *run) needLock(steps stageSteps, script string) {
	locks := cache.LockFiles(script)
	if len(locks) == 0 || slices.ContainsFunc(locks, r.hasFile) {
		return
	}
	why := "the workspace has no " + strings.Join(locks, " or ")
	steps.install.unfit = cmp.Or(steps.install.unfit, why)
	steps.build.unfit = cmp.Or(steps.build.unfit, "the install command is not cached: "+why)
}

func (r *run) hasFile(name string) bool {
	info, err := r.space.Root().Lstat(name)
	return err == nil && info.Mode().IsRegular()
}

// restoreStages restores what the build stage made. Then install is not needed either.
func (r *run) restoreStages(ctx context.Context, install stage, steps stageSteps) (bool, error) {
	s := steps.build
	if s == nil || s.key == nil {
		return false, nil
	}
	build, err := r.buildStage()
	if err != nil || r.over(build) {
		return false, nil //nolint:nilerr // runStages finds it again
	}
	began := time.Now()
	found, err := r.lookUp(ctx, s)
	if err != nil || !found.Cached {
		return false, err
	}
	if install.script != "" {
		saved, _ := strconv.ParseInt(s.hit.Meta[installMeta], 10, 64)
		r.journal.Report(buildcast.BuildProgress, install.ending(report.Reused{Cached: true, OriginBuildID: found.OriginBuildID, SavedMS: saved}, 0))
		steps.install.hit = s.hit
		r.note(ctx, steps.install)
	}
	r.journal.Report(buildcast.BuildProgress, build.ending(found, time.Since(began).Milliseconds()))
	return true, nil
}

// findModules returns a function that finds the directories in which packages are
// installed.
func (r *run) findModules(ctx context.Context) func() ([]string, error) {
	return func() (found []string, err error) {
		_, err = r.inputs.Take(ctx, func(name string, dir bool) inputs.Interest {
			switch {
			case dir && path.Base(name) == modules:
				found = append(found, name)
				return inputs.Skip
			case dir:
				return inputs.Watch
			}
			return inputs.Skip
		})
		return found, err
	}
}

// findOutput returns the directory that the build command has made.
func (r *run) findOutput() ([]string, error) {
	dir, err := r.build.Plan.Output, error(nil)
	if dir == "" {
		dir, err = detect.Output(r.space.Root(), true)
	}
	if err == nil && path.Clean(dir) == "." {
		err = errors.New("its output is the workspace itself")
	}
	return []string{path.Clean(dir)}, err
}

// settings are files that package managers read, besides package.json and lock files.
var settings = []string{".npmrc", ".yarnrc", ".yarnrc.yml", ".pnpmfile.cjs", "pnpm-workspace.yaml", "bunfig.toml", "patches", ".yarn"}

// lifecycle are the scripts that installing runs, as a package.json has them.
var lifecycle = []string{`"preinstall"`, `"install"`, `"postinstall"`, `"prepublish"`, `"preprepare"`, `"prepare"`, `"postprepare"`}

// installInputs returns what the install command reads: package files, lock files and
// settings; or everything, if it runs scripts of the workspace or copies packages from
// it.
func (r *run) installInputs(before *inputs.Snapshot) func(name string) bool {
	var locks []string
	for _, script := range []string{"npm ci", "pnpm install", "yarn", "bun install"} {
		locks = append(locks, cache.LockFiles(script)...)
	}
	for _, name := range before.Names() {
		base := path.Base(name)
		if base == "package.json" && r.mentions(name, lifecycle...) || slices.Contains(locks, base) && r.mentions(name, "file:") {
			return all
		}
	}
	return func(name string) bool {
		base := path.Base(name)
		return base == "package.json" || slices.Contains(locks, base) || below(name, settings)
	}
}

// maxRead bounds a package or lock file that is searched, in bytes.
const maxRead = 16 << 20

// mentions reports whether the file has one of the texts, or cannot be searched.
func (r *run) mentions(name string, texts ...string) bool {
	f, err := r.space.Root().OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return true
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRead))
	return err != nil || len(b) == maxRead || slices.ContainsFunc(texts, func(t string) bool { return bytes.Contains(b, []byte(t)) })
}
