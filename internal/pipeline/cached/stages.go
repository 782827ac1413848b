package cached

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

	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/detect"
	"github.com/buildcast/buildcast/internal/pipeline/inputs"
	"github.com/buildcast/buildcast/internal/pipeline/report"
)

// Stages are the stages install and build as steps. Their inputs are those before
// install: if the build stage is in the cache, install need not run.
type Stages struct {
	build, install *Step
	buildScript    string // that build was made for
	installs       bool   // install has a command
}

// Release ends the steps' turns.
func (s Stages) Release() {
	for _, step := range []*Step{s.build, s.install} {
		if step != nil {
			step.release()
		}
	}
}

// Of returns the step of the stage that runs the script.
func (s Stages) Of(stage, script string) *Step {
	switch {
	case stage == report.Install && s.install != nil:
		return s.install
	case stage == report.Build && s.build != nil && s.buildScript == script:
		return s.build
	}
	return &Step{name: cache.StageName(stage), from: report.Source{Stage: stage}, unfit: "install has brought another command"}
}

// InstallTook tells the build's entry how long install took: here, or in the build whose
// result was restored.
func (s Stages) InstallTook(took time.Duration) {
	if s.build == nil {
		return
	}
	ms := took.Milliseconds()
	if s.install != nil && s.install.hit != nil {
		ms = cmp.Or(s.install.hit.DurationMS, ms)
	}
	s.build.meta = map[string]string{installMeta: strconv.FormatInt(ms, 10)}
}

// modules is the directory in which package managers put what they install.
const modules = "node_modules"

// Stages makes the steps of the stages that are to run, by their commands; an empty
// command has nothing to do.
func (r *Results) Stages(ctx context.Context, install, build string) Stages {
	plan := r.Build.Plan
	steps := Stages{
		buildScript: build, installs: install != "",
		install: r.stage(report.Install, cache.WhyInstall(plan, install)),
		build:   r.stage(report.Build, cache.WhyBuild(plan, install)),
	}
	steps.install.strict = true
	if install != "" {
		r.needLock(steps, install)
	}
	without := func(name string, _ bool) inputs.Interest {
		if install != "" && path.Base(name) == modules || strings.HasPrefix(path.Base(name), temporary) {
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
	if build != "" {
		r.begin(ctx, steps.build, outputs)
	}
	steps.install.before = steps.build.before
	if install != "" {
		r.begin(ctx, steps.install, nil)
	}
	if s := steps.install; s.key != nil {
		s.before.AddTo(s.key, r.installInputs(s.before))
		s.key.AddHidden(cache.PartCommand, "", install)
	}
	if s := steps.build; s.key != nil {
		s.before.AddTo(s.key, all)
		s.key.AddHidden(cache.PartCommand, "", build)
		s.key.AddHidden(cache.PartCommand, report.Install, install)
		s.key.Add(cache.PartOutputs, "", plan.Output)
	}
	return steps
}

func (r *Results) stage(name, unfit string) *Step {
	return &Step{kind: cache.KindStage, name: cache.StageName(name), from: report.Source{Stage: name}, unfit: unfit, env: r.Build.Plan.Env}
}

// needLock makes the steps unfit if what the install command brings is not fixed by a
// lock file.
func (r *Results) needLock(steps Stages, script string) {
	locks := cache.LockFiles(script)
	if len(locks) == 0 || slices.ContainsFunc(locks, r.hasFile) {
		return
	}
	why := "the workspace has no " + strings.Join(locks, " or ")
	steps.install.unfit = cmp.Or(steps.install.unfit, why)
	steps.build.unfit = cmp.Or(steps.build.unfit, "the install command is not cached: "+why)
}

func (r *Results) hasFile(name string) bool {
	info, err := r.Root.Lstat(name)
	return err == nil && info.Mode().IsRegular()
}

// Restore restores what the build stage made. Then install is not needed either:
// installed says what that saves. Only a build that was found is Cached.
func (r *Results) Restore(ctx context.Context, steps Stages) (built, installed report.Reused, err error) {
	s := steps.build
	if s == nil || s.key == nil {
		return built, installed, nil
	}
	if built, err = r.lookUp(ctx, s); err != nil || !built.Cached || !steps.installs {
		return built, installed, err
	}
	saved, _ := strconv.ParseInt(s.hit.Meta[installMeta], 10, 64) // 0 if it is not known
	steps.install.hit = s.hit
	r.note(ctx, steps.install)
	return built, report.Reused{Cached: true, OriginBuildID: built.OriginBuildID, SavedMS: saved}, nil
}

// findModules returns a function that finds the directories in which packages are
// installed.
func (r *Results) findModules(ctx context.Context) func() ([]string, error) {
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
func (r *Results) findOutput() ([]string, error) {
	dir, err := r.Build.Plan.Output, error(nil)
	if dir == "" {
		dir, err = detect.Output(r.Root, true)
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
func (r *Results) installInputs(before *inputs.Snapshot) func(name string) bool {
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
func (r *Results) mentions(name string, texts ...string) bool {
	f, err := r.Root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return true
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRead))
	return err != nil || len(b) == maxRead || slices.ContainsFunc(texts, func(t string) bool { return bytes.Contains(b, []byte(t)) })
}
