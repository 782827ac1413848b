package runner

import (
	"os"
	"os/exec"
	"testing"
)

// Attack: the machine cannot start one more process. The command was not started,
// so it may be tried again.
func TestSupervisorThatCannotStart(t *testing.T) {
	for written, transient := range map[string]bool{"": true, "+": false} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.WriteString(written)
		w.Close()
		dead := exec.CommandContext(t.Context(), "/bin/sh", "-c", "exit 2") // as the Go runtime ends
		if err := dead.Start(); err != nil {
			t.Fatal(err)
		}
		s := &shell{supervisor: dead, report: r}
		if _, err := s.wait(); err == nil || Transient(err) != transient {
			t.Errorf("after %q: %v", written, err)
		}
	}
}
