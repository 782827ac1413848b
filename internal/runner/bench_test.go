//go:build linux

package runner

import "testing"

// BenchmarkCommand compares a command without and with the sandbox. Both have limits.
func BenchmarkCommand(b *testing.B) {
	boxed, err := New(b.Context(), Config{Sandbox: SandboxBwrap, Limits: testLimits, Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	direct, err := New(b.Context(), Config{Sandbox: SandboxOff, Limits: testLimits})
	if err != nil {
		b.Fatal(err)
	}
	for name, r := range map[string]*Runner{"direct": direct, "bwrap": boxed} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			s := Spec{Script: "true", Dir: dir, Home: dir, Temp: dir, Env: []string{"PATH=/usr/bin:/bin"}}
			for b.Loop() {
				if _, err := r.Run(b.Context(), s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
