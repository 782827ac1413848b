package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDeployVariables(t *testing.T) {
	t.Setenv("TEST_TOKEN", "from the environment")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := Deploy{Command: "true", Env: []string{"TEST_TOKEN", "OTHER=@" + file}, Timeout: time.Minute}
	if err := d.check(); err != nil {
		t.Fatal(err)
	}
	if d.Variables["TEST_TOKEN"] != "from the environment" || d.Variables["OTHER"] != "from a file" || len(d.Variables) != 2 {
		t.Errorf("%q", d.Variables)
	}
	for entry, want := range map[string]string{
		"TEST_TOKEN=secret": "where others see it", "NOT_THERE": "no NOT_THERE", "A B": "not a variable's",
		"BUILDCAST_API_KEYS": "belongs to buildcast", "OTHER=@/nowhere": "cannot read", "": "not a variable's",
	} {
		d := Deploy{Command: "true", Env: []string{entry}, Timeout: time.Minute}
		if err := d.check(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %q", entry, err, want)
		}
	}
	if err := (&Deploy{Env: []string{"TEST_TOKEN"}, Timeout: time.Minute}).check(); err == nil {
		t.Error("variables without a command")
	}
}

// The variables of the deploy command are known before the flags are parsed, so that
// the server can keep them from builds.
func TestDeployVariablesOfTheCommandLine(t *testing.T) {
	t.Setenv("BUILDCAST_DEPLOY_ENV", "A,B=@file")
	got := DeployVariables([]string{"buildcast", "serve", "--deploy-env", "C,D", "--deploy-env=E"})
	if !slices.Equal(got, []string{"A", "C", "D", "E"}) {
		t.Errorf("%q", got)
	}
}
