package config

import (
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
)

// Deploy is the deploy target command: a program of the operator.
type Deploy struct {
	// Command is a shell script. Empty: there is no such target.
	Command string `placeholder:"SCRIPT" help:"Shell command that plans with deploy: command hand their output to, such as 'rsync -a \"$BUILDCAST_OUTPUT\"/ web:/srv/ && echo https://example.com'. It runs outside the sandbox; the last line that it prints is the address."`
	// Env are the variables that the command gets beside PATH and HOME.
	Env []string `placeholder:"NAME" help:"Variables that the deploy command gets besides PATH, HOME and those with BUILDCAST_: NAME takes the server's own, NAME=@FILE reads the value from a file. They are masked in its output."`
	// Timeout bounds one run of the command.
	Timeout time.Duration `default:"15m" placeholder:"DURATION" help:"How long the deploy command may run, such as 15m; 24h at most."`

	// Variables are Env with their values. Check sets them.
	Variables map[string]string `kong:"-"`
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (d *Deploy) check() error {
	if d.Timeout <= 0 || d.Timeout > buildcast.MaxTimeout {
		return invalid("--deploy-timeout", "it is %v: use more than 0 and at most %v", d.Timeout, buildcast.MaxTimeout)
	}
	if d.Command == "" && len(d.Env) > 0 {
		return invalid("--deploy-env", "it is set, but there is no --deploy-command to get it")
	}
	d.Variables = map[string]string{}
	for _, entry := range d.Env {
		name, value, given := strings.Cut(entry, "=")
		switch {
		case !variableName.MatchString(name):
			return invalid("--deploy-env", "a name in it is not a variable's: use letters, digits and underscores, such as NETLIFY_AUTH_TOKEN")
		case strings.HasPrefix(name, "BUILDCAST_"):
			return invalid("--deploy-env", "%s belongs to buildcast: choose another name, with NAME=@FILE if the value is in a file", name)
		case given && !strings.HasPrefix(value, "@"):
			return invalid("--deploy-env", "%s has its value in the command line, where others see it: use %s to take the server's variable, or %s=@FILE", name, name, name)
		case given:
			var err error
			if d.Variables[name], err = Secret("--deploy-env", value); err != nil {
				return err
			}
		default:
			if d.Variables[name], given = os.LookupEnv(name); !given {
				return invalid("--deploy-env", "the server's environment has no %s: set it, or use %s=@FILE", name, name)
			}
		}
	}
	return nil
}

// DeployVariables returns the names of the variables that a command line, or the
// environment, gives to the deploy command. It is asked before the flags are parsed,
// so it does not know the configuration file.
func DeployVariables(args []string) (names []string) {
	lists := []string{os.Getenv("BUILDCAST_DEPLOY_ENV")}
	for i, arg := range args {
		if list, ok := strings.CutPrefix(arg, "--deploy-env="); ok {
			lists = append(lists, list)
		} else if arg == "--deploy-env" && i+1 < len(args) {
			lists = append(lists, args[i+1])
		}
	}
	for _, name := range strings.Split(strings.Join(lists, ","), ",") {
		if variableName.MatchString(name) {
			names = append(names, name)
		}
	}
	return names
}
