// Package cli is the command line: a file per verb.
//
// A verb writes its result to stdout and everything else to stderr, so that
// output can be piped. Its exit code is 0 for success, 1 for a failure (of the
// verb, or of the build it followed), 2 for an error in the command line, and 130
// if Ctrl-C or a cancellation ended it.
package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/cli/webhooks"
	"github.com/buildcast/buildcast/internal/config"
)

type commands struct {
	Config configFile `placeholder:"FILE" env:"BUILDCAST_CONFIG" help:"YAML file with settings under the flags' names, such as listen: 127.0.0.1:9000. Default: ${config_default}, if it exists. Flags and the environment override it."`

	Build    buildCmd         `cmd:"" help:"Run a plan and watch it, in a server of its own if none is running."`
	Retry    retryCmd         `cmd:"" help:"Run a finished build again: what it completed is taken over."`
	Serve    serveCmd         `cmd:"" help:"Run the server: the API, the builds and their previews."`
	Plan     planCmd          `cmd:"" help:"Make a plan from a prompt, print it and run nothing."`
	Validate validateCmd      `cmd:"" help:"Check a plan, and print which of its steps are cached."`
	Watch    watchCmd         `cmd:"" help:"Watch a build until it is over."`
	List     listCmd          `cmd:"" help:"List builds, the newest first."`
	Status   statusCmd        `cmd:"" help:"Print the status of a build."`
	Cancel   cancelCmd        `cmd:"" help:"Cancel a build."`
	Delete   deleteCmd        `cmd:"" help:"Delete a finished build with its log and preview."`
	Cleanup  cleanupCmd       `cmd:"" help:"Remove what old builds left: deployments at Cloudflare, previews, workspaces, cache."`
	Emit     emitCmd          `cmd:"" help:"Report one event of a build."`
	Exec     execCmd          `cmd:"" help:"Run any command and report it as a build or as a task of one."`
	Cache    cacheCmd         `cmd:"" help:"See what builds can take over from builds before them, and why they could not."`
	Webhooks webhooks.Command `cmd:"" help:"Send events to webhook endpoints: list, add, test and repair them."`
	Version  versionCmd       `cmd:"" help:"Print the version."`
}

// RunsCommands are the verbs that may run commands: those of plans, or a planner's.
var RunsCommands = []string{"serve", "build", "plan"}

// Run runs one command line and returns the process's exit code.
func Run(ctx context.Context, args []string, stdin, stdout, stderr *os.File) int {
	s := &verb.Session{Context: ctx, Stdin: stdin, Stdout: stdout, Stderr: stderr}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	helped := false
	parser, err := kong.New(new(commands), options(s, func(int) { helped = true })...)
	if err != nil {
		return fail(s, err)
	}
	parsed, err := parser.Parse(args)
	if helped {
		return 0
	}
	if err != nil {
		return fail(s, usage(err))
	}
	return fail(s, parsed.Run(s))
}

func options(s *verb.Session, exit func(int)) []kong.Option {
	return []kong.Option{
		kong.Name("buildcast"),
		kong.Description("buildcast shows people what a long build is doing, while it does it.\n\n" +
			"Begin with: buildcast build examples/hello-site/plan.yaml"),
		kong.Writers(s.Stdout, s.Stderr),
		kong.Exit(exit),
		kong.DefaultEnvars("BUILDCAST"),
		kong.PostBuild(hideSettings),
		kong.Vars{"config_default": config.DefaultFile},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 110}),
		kong.ValueFormatter(describe),
	}
}

// describe adds a flag's default and its variable to its help.
func describe(v *kong.Value) string {
	text := v.Help
	if v.HasDefault && v.Default != "" && !v.IsBool() {
		text += " Default: " + v.Default + "."
	}
	if len(v.Tag.Envs) > 0 {
		text += " $" + v.Tag.Envs[0]
	}
	return text
}

// usage adds the verb's help to a parse error.
func usage(err error) error {
	hint := "buildcast --help"
	if p, ok := errors.AsType[*kong.ParseError](err); ok && p.Context != nil && p.Context.Selected() != nil {
		hint = p.Context.Selected().FullPath() + " --help"
	}
	if e, ok := errors.AsType[*buildcast.Error](err); ok {
		return &verb.ExitError{Code: verb.ExitUsage, Err: e}
	}
	return &verb.ExitError{Code: verb.ExitUsage, Err: fmt.Errorf("%w; see `%s`", err, hint)}
}

// fail prints the error, unless it has been printed, and returns the exit code.
func fail(s *verb.Session, err error) int {
	if err == nil {
		return 0
	}
	code, said := verb.ExitFailed, false
	if e, ok := errors.AsType[*verb.ExitError](err); ok {
		code, said = e.Code, e.Err == nil
	}
	if !said {
		fmt.Fprintf(s.Stderr, "buildcast: %s\n", explain(err))
	}
	return code
}

// explain turns an error into a sentence, with the fix if one is known.
func explain(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok && buildcast.CodeOf(err) == buildcast.Unreachable {
		server := u.URL
		if p, err := url.Parse(u.URL); err == nil {
			server = p.Scheme + "://" + p.Host
		}
		cause := u.Err
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			cause = errno
		}
		return fmt.Sprintf("no server answers at %s: %v; start it with `buildcast serve`, or name another with --server", server, cause)
	}
	text := strings.ReplaceAll(err.Error(), "\n\t", " ") // drivers list their attempts in lines
	if buildcast.CodeOf(err) == buildcast.Unauthenticated {
		text += "; for this command, set BUILDCAST_API_KEY to a key"
	}
	return text
}

// configFile is the path of the file with settings.
type configFile string

// BeforeResolve reads the file: flags that are not set take its values.
func (*commands) BeforeResolve(ctx *kong.Context) error {
	path := ""
	for _, flag := range ctx.Model.Flags {
		if flag.Name == "config" {
			c, _ := ctx.FlagValue(flag).(configFile)
			path = string(c)
		}
	}
	if path == "" {
		if _, err := os.Stat(config.DefaultFile); err != nil {
			return nil
		}
		path = config.DefaultFile
	}
	file, err := config.ReadFile(path)
	if err != nil {
		return err
	}
	if err := file.Validate(ctx.Model); err != nil {
		return err
	}
	ctx.AddResolver(file)
	return nil
}

type versionCmd struct{}

func (versionCmd) Run(s *verb.Session) error {
	fmt.Fprintln(s.Stdout, "buildcast", version())
	return nil
}

// version returns what the build of this binary recorded: a release's tag, or the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return strings.TrimPrefix(v, "v")
	}
	v := "dev"
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && len(setting.Value) >= 12 {
			v += "-" + setting.Value[:12]
		}
	}
	return v
}
