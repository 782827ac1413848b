package cache

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/buildcast/buildcast"
)

// The names of the stages.
const (
	StageInstall = "install"
	StageBuild   = "build"
)

// WhyTask returns why the task of the plan is not cached; "" if it is.
func WhyTask(p *buildcast.Plan, t *buildcast.Task) string {
	switch {
	case t.Run == "":
		return "it runs no command"
	case len(t.Outputs) == 0:
		return "it names no outputs"
	case t.Network:
		return "it uses the network"
	case len(t.Secrets) > 0 || len(p.Secrets) > 0:
		return "it is given secrets"
	}
	return ""
}

// WhyInstall returns why the install command of the plan is not cached; "" if it is,
// provided that the workspace has the package manager's lock file. An empty script is
// not cached and needs no reason.
func WhyInstall(p *buildcast.Plan, script string) string {
	switch {
	case script == "":
		return ""
	case len(p.Secrets) > 0:
		return "it is given secrets"
	case len(LockFiles(script)) == 0:
		return "it is not just the install command of npm, pnpm, yarn or bun"
	}
	return ""
}

// WhyBuild returns why the build command of the plan is not cached; "" if it is.
// install is the install command, empty if there is none.
func WhyBuild(p *buildcast.Plan, install string) string {
	switch {
	case p.Network:
		return "it uses the network"
	case len(p.Secrets) > 0:
		return "it is given secrets"
	case p.Output == "." || p.Output == "" && !p.Detect:
		return "the plan names no output directory"
	}
	if why := WhyInstall(p, install); why != "" {
		return fmt.Sprintf("the install command is not cached: %s", why)
	}
	return ""
}

// installCommand is a package manager's install command with flags.
var installCommand = regexp.MustCompile(`^(?:(npm) (?:ci|install|i)|(pnpm) (?:install|i)|(yarn)(?: install)?|(bun) (?:install|i))(?: --?[A-Za-z][A-Za-z0-9-]*(?:=[A-Za-z0-9_.-]+)?)*$`)

// LockFiles returns the names of the lock files of which the install command needs
// one to be cached; none if it is another command.
func LockFiles(script string) []string {
	m := installCommand.FindStringSubmatch(strings.TrimSpace(script))
	if m == nil {
		return nil
	}
	switch strings.Join(m[1:], "") {
	case "npm":
		return []string{"npm-shrinkwrap.json", "package-lock.json"}
	case "pnpm":
		return []string{"pnpm-lock.yaml"}
	case "yarn":
		return []string{"yarn.lock"}
	}
	return []string{"bun.lock", "bun.lockb"}
}
