//go:build linux

package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeBwrap puts a program called bwrap in front of PATH that writes the message and
// fails. It stands for machines on which bubblewrap does not work.
func fakeBwrap(t *testing.T, message string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "bwrap")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho 'bwrap: "+strings.ReplaceAll(message, "'", "'\\''")+"' >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return path
}

// Each row of the table of causes is told from what bubblewrap writes, with its fix.
func TestCauses(t *testing.T) {
	for message, fix := range map[string]string{
		"No permissions to creating new namespace, likely because the kernel does not allow non-privileged user namespaces": "seccomp=unconfined",
		"Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)":                 "user.max_user_namespaces",
		"loopback: Failed RTM_NEWADDR: Operation not permitted":                                                             "bwrap-userns-restrict",
		"setting up uid map: Permission denied":                                                                             "bwrap-userns-restrict",
		"Can't mount proc on /newroot/proc: Operation not permitted":                                                        "systempaths=unconfined",
		"Failed to make / slave: Permission denied":                                                                         "apparmor=unconfined",
		"Unknown option --disable-userns":                                                                                   "0.8.0",
		"something new":                                                                                                     "docs/sandbox.md",
	} {
		fakeBwrap(t, message)
		r, err := New(t.Context(), Config{Sandbox: SandboxAuto, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if p := r.Problem(); p == nil || !strings.Contains(p.Error(), fix) || !strings.Contains(p.Error(), message) {
			t.Errorf("%s: %v", message, p)
		}
	}
}

// Without a sandbox: on loopback commands run directly, but not what a planner made.
// If others can reach the server, nothing runs. If bwrap was asked for, there is no
// server. Only --sandbox off runs everything.
func TestModesWithoutASandbox(t *testing.T) {
	fakeBwrap(t, "broken")
	for _, c := range []struct {
		mode                     string
		exposed                  bool
		server, person, planners bool
	}{
		{SandboxAuto, false, true, true, false},
		{SandboxAuto, true, true, false, false},
		{"", true, true, false, false},
		{SandboxBwrap, false, false, false, false},
		{SandboxOff, true, true, true, true},
	} {
		name := fmt.Sprintf("%s, exposed %v", c.mode, c.exposed)
		r, err := New(t.Context(), Config{Sandbox: c.mode, Exposed: c.exposed, Dir: t.TempDir()})
		if (err == nil) != c.server {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		if r.Sandbox() != "none" {
			t.Errorf("%s: %s", name, r.Sandbox())
		}
		for planned, want := range map[bool]bool{false: c.person, true: c.planners} {
			spec, out := inBox(t, `echo ran`)
			spec.Planned = planned
			_, err := r.Run(t.Context(), spec)
			if (err == nil) != want || (out() == "ran") != want || (r.May(planned) == nil) != want {
				t.Errorf("%s, planned %v: %v", name, planned, err)
			}
			if err != nil && !strings.Contains(err.Error(), "--sandbox off") {
				t.Errorf("%s: the error does not say how to go on: %v", name, err)
			}
		}
	}
}

// Attack: a bwrap with rights of its own.
func TestSetuidBwrapIsRefused(t *testing.T) {
	path := fakeBwrap(t, "")
	if err := os.Chmod(path, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Config{Sandbox: SandboxBwrap, Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "setuid") {
		t.Error(err)
	}
}

func TestNoBwrap(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := New(t.Context(), Config{Sandbox: SandboxBwrap, Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "apt-get install bubblewrap") {
		t.Error(err)
	}
}
