package cli

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/config"
)

// A setting that holds a secret is kept from commands: its variable is listed.
func TestEverySecretVariableIsListed(t *testing.T) {
	s := &verb.Session{Context: t.Context(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	app, err := kong.New(new(commands), options(s, func(int) {})...)
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"PGPASSWORD"}
	for _, command := range app.Model.Children {
		for _, flag := range command.Flags {
			known = append(known, flag.Envs...)
			for _, name := range flag.Envs {
				if strings.Contains(flag.Help, "visible in process lists") && !slices.Contains(config.SecretVariables, name) {
					t.Errorf("%s may hold a secret: add it to config.SecretVariables", name)
				}
			}
		}
	}
	for _, name := range config.SecretVariables {
		if !slices.Contains(known, name) {
			t.Errorf("%s is no setting", name)
		}
	}
	for _, verb := range RunsCommands {
		if !slices.ContainsFunc(app.Model.Children, func(n *kong.Node) bool { return n.Name == verb }) {
			t.Errorf("%s is no verb", verb)
		}
	}
}
