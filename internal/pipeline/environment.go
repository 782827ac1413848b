package pipeline

import (
	"cmp"
	"maps"
	"os"
	"slices"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/mask"
	"github.com/buildcast/buildcast/internal/pipeline/report"
)

// Secrets returns the values of secrets. A message of a *buildcast.Error is shown to
// users as it is: it names what is missing, and never a value.
type Secrets interface {
	Secret(project, name string) (string, error)
}

// maxSecrets bounds the values of one build, in bytes: each is searched for in all output.
const maxSecrets = 32 << 10

// openSecrets reads the secrets that the plan names, and hides their values from here
// on: in the output of every command of the build, because a command may keep what
// another prints.
func (r *run) openSecrets() error {
	names := secretsOf(r.build.Plan)
	if len(names) == 0 {
		return nil
	}
	if r.build.Planned() {
		return buildcast.Errorf(buildcast.InvalidArgument, "the plan asks for the secret %s, but a build in which a planner has a part gets no secrets: write the plan, and the files of its tasks, by hand", names[0]).At("secrets")
	}
	source := r.pipeline.config.Secrets
	if source == nil {
		return buildcast.Errorf(buildcast.NotFound, "the plan asks for the secret %s, but this server keeps no secrets: start it with --secrets-dir DIR, and put the value into the file DIR/%s", names[0], names[0]).At("secrets")
	}
	r.secrets = make(map[string]string, len(names))
	size := 0
	for _, name := range names {
		value, err := source.Secret(r.build.Project, name)
		if err != nil {
			return err
		}
		if size += len(value); size > maxSecrets {
			return buildcast.Errorf(buildcast.TooLarge, "the secrets of the plan are more than %d bytes in all: give the build fewer or shorter ones", maxSecrets).At("secrets")
		}
		r.secrets[name] = value
	}
	r.mask = mask.New(slices.Collect(maps.Values(r.secrets))...)
	return nil
}

// secretsOf returns the names of all secrets of the plan, sorted.
func secretsOf(p *buildcast.Plan) []string {
	names := slices.Clone(p.Secrets)
	for _, t := range p.Tasks {
		names = append(names, t.Secrets...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// commandPath is the PATH of all commands, unless the plan sets another.
func commandPath() string { return cmp.Or(os.Getenv("PATH"), "/usr/local/bin:/usr/bin:/bin") }

// environment returns the variables of the command of a task or a stage. It inherits
// only PATH from the server's environment, which may hold secrets. What comes later
// replaces what comes before: the defaults, the plan's variables, the task's, secrets,
// and the marks by which a build's processes are found.
func (r *run) environment(name string, from report.Source) []string {
	env := map[string]string{
		"PATH": commandPath(),
		"LANG": "C.UTF-8",
		"CI":   "1",
		// What npm prints besides its work.
		"npm_config_audit": "false", "npm_config_fund": "false", "npm_config_update_notifier": "false",
	}
	plan := r.build.Plan
	maps.Copy(env, plan.Env)
	names := plan.Secrets
	if i := slices.IndexFunc(plan.Tasks, func(t buildcast.Task) bool { return t.Name == from.TaskName }); from.TaskName != "" && i >= 0 {
		maps.Copy(env, plan.Tasks[i].Env)
		names = slices.Concat(names, plan.Tasks[i].Secrets)
	}
	for _, n := range names {
		env[n] = r.secrets[n]
	}
	env[envBuildID], env[envTask] = r.build.ID, name
	list := make([]string, 0, len(env))
	for _, key := range slices.Sorted(maps.Keys(env)) {
		list = append(list, key+"="+env[key])
	}
	return list
}
