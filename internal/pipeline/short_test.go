package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/runner"
)

// waits is a log handler that signals each step that waits.
type waits struct {
	slog.Handler
	told chan struct{}
}

func (w waits) Enabled(context.Context, slog.Level) bool { return true }
func (w waits) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w waits) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "short of") {
		select {
		case w.told <- struct{}{}:
		default:
		}
	}
	return nil
}

// fewDescriptors takes all free descriptors of the process, until it is undone.
func fewDescriptors(t *testing.T) (undo func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	// The limit applies to the number of a new descriptor, so lower free numbers are
	// filled.
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	highest := 0
	for _, fd := range open {
		if n, err := strconv.Atoi(fd.Name()); err == nil {
			highest = max(highest, n)
		}
	}
	var filled []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		filled = append(filled, f)
		if int(f.Fd()) > highest {
			break
		}
	}
	limit := syscall.Rlimit{Cur: uint64(filled[len(filled)-1].Fd()), Max: old.Max} //nolint:unconvert // it differs between systems
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
		for _, f := range filled {
			f.Close()
		}
	}
}

// Attack: watchers take all descriptors. A build that cannot create its workspace
// or start its command waits for descriptors, and does not fail.
func TestBuildWaitsForDescriptors(t *testing.T) {
	r := newRig(t)
	told := make(chan struct{}, 1)
	logs := func(c *Config) { c.Logger = slog.New(waits{slog.DiscardHandler, told}) }

	r.build("workspace", &buildcast.Plan{Deploy: "none", Build: "true"})
	undo := fewDescriptors(t)
	p := r.pipeline("node", logs)
	r.start(p)
	<-told
	undo()
	if last := r.end("workspace"); last.Type != buildcast.BuildCompleted {
		t.Errorf("%s", last.Data)
	}

	r.build("command", &buildcast.Plan{Deploy: "none", Tasks: []buildcast.Task{shell("first", "while [ ! -e go ]; do sleep 0.01; done"), shell("then", "true", "first")}})
	p.Kick()
	r.await("command", func(e *buildcast.Event) bool { return e.Type == buildcast.TaskStarted })
	eventually(t, "the workspace is made", func() bool {
		return os.WriteFile(p.config.Dir+"/command/work/go.new", nil, 0o600) == nil
	})
	undo = fewDescriptors(t)
	if err := os.Rename(p.config.Dir+"/command/work/go.new", p.config.Dir+"/command/work/go"); err != nil {
		t.Fatal(err)
	}
	<-told
	undo()
	if last := r.end("command"); last.Type != buildcast.BuildCompleted {
		t.Errorf("%s", last.Data)
	}
}

// The wait has a bound, and other errors are not waited for.
func TestWaitForThisMachineIsBounded(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EAGAIN, syscall.ENOMEM} {
		synctest.Test(t, func(t *testing.T) {
			r := &run{log: quiet}
			short := &runner.Failure{Err: &fs.PathError{Err: errno}}
			begun, tries := time.Now(), 0
			err := r.whenPossible(t.Context(), func() error { tries++; return short })
			if waited := time.Since(begun); !errors.Is(err, errno) || waited < shortFor || waited > shortFor+time.Second || tries < 60 {
				t.Errorf("%v after %v and %d tries", err, waited, tries)
			}
			if err := r.whenPossible(t.Context(), func() error { short = nil; return fmt.Errorf("x: %w", syscall.ENOSPC) }); !errors.Is(err, syscall.ENOSPC) || time.Since(begun) > shortFor+time.Second {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := r.whenPossible(ctx, func() error { return errno }); !errors.Is(err, errno) {
				t.Error(err)
			}
		})
	}
}
