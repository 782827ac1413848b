package local

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// running runs the target until the test's end, and waits until it is idle.
func running(t *testing.T, target *Target) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- target.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
}

// pass advances the bubble's clock, and waits until all goroutines are idle.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestRunRemovesOldPreviews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := newTarget(t)
		old := mustDeploy(t, target, "27", map[string]string{"index.html": "x"})
		renewed := mustDeploy(t, target, "28", map[string]string{"index.html": "x"})
		pass(DefaultRetain - 2*time.Hour)
		mustDeploy(t, target, "28", map[string]string{"index.html": "y"})
		running(t, target)
		pass(2 * time.Hour)
		if w := get(target, old); w.Code != 200 {
			t.Errorf("at its full age it returns status %d", w.Code)
		}
		pass(time.Hour)
		if w := get(target, old); w.Code != 404 {
			t.Errorf("after its time it returns status %d", w.Code)
		}
		if w := get(target, renewed); w.Body.String() != "y" {
			t.Errorf("deployed again, it gives %d %q", w.Code, w.Body)
		}
		if n := versionsLeft(t, target); n != 1 {
			t.Errorf("%d versions are kept, want 1", n)
		}
	})
}

func TestRunClearsUpAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := newTarget(t)
		url := mustDeploy(t, target, "27", map[string]string{"index.html": "x"})
		// Killed while copying, before the rename, and before the old version was removed.
		write(t, filepath.Join(target.versions(), newVersion("27"), "index.html"), "half")
		write(t, filepath.Join(target.versions(), newVersion("new"), "index.html"), "half")
		symlink(t, "nowhere", filepath.Join(target.versions(), newVersion("27")+".link"))
		running(t, target)
		if n := versionsLeft(t, target); n != 1 {
			t.Errorf("%d versions are kept, want 1", n)
		}
		if w := get(target, url); w.Body.String() != "x" {
			t.Errorf("got %d %q", w.Code, w.Body)
		}
		again := mustDeploy(t, target, "27", map[string]string{"index.html": "whole"})
		if w := get(target, again); again != url || w.Body.String() != "whole" {
			t.Errorf("%s gives %q", again, w.Body)
		}
	})
}

func TestRunLeavesADeployInProgressAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := newTarget(t)
		dir := output(t, map[string]string{"index.html": "x", "a/b.txt": "b"})
		running(t, target)
		url, err := publish(t.Context(), target, "27", dir, func(string) {
			pass(3 * time.Hour) // three sweeps during the deploy
		})
		if err != nil {
			t.Fatal(err)
		}
		if w := get(target, url+"a/b.txt"); w.Body.String() != "b" {
			t.Errorf("got %d %q", w.Code, w.Body)
		}
	})
}

func TestSweepKeepsWhatIsBeingMade(t *testing.T) {
	target := newTarget(t)
	version := newVersion("27")
	write(t, filepath.Join(target.versions(), version, "index.html"), "half")
	target.reserve(version)
	for range 2 {
		if err := target.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := versionsLeft(t, target); n != 1 {
		t.Errorf("%d versions are kept, want the one in the making", n)
	}
	target.release(version)
	if err := target.sweep(t.Context()); err != nil || versionsLeft(t, target) != 0 {
		t.Errorf("it is kept after its deploy ended: %v", err)
	}
}

func TestRunWithoutADirectoryWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := newTarget(t)
		running(t, target)
		if _, err := os.Stat(target.dir); !os.IsNotExist(err) {
			t.Errorf("the directory: %v", err)
		}
	})
}

func TestRunReportsWhatItCannotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := make(lineCounter, 10)
		target := New(Config{Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(lines, nil))})
		write(t, target.sites(), "a file where the directory should be")
		running(t, target)
		if len(lines) != 1 {
			t.Errorf("%d lines were logged, want 1", len(lines))
		}
	})
}

// lineCounter receives a value for each line written.
type lineCounter chan struct{}

func (c lineCounter) Write(b []byte) (int, error) {
	c <- struct{}{}
	return len(b), nil
}

// The preview of a deleted build is removed, also if the server crashed in
// between. If the store does not answer, previews stay.
func TestRunRemovesPreviewsWithoutABuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := newTarget(t)
		var away atomic.Bool
		target.exists = func(_ context.Context, id string) (bool, error) {
			if away.Load() {
				return false, errors.New("the store is away")
			}
			return id == "My_Build", nil
		}
		gone := mustDeploy(t, target, "01JD3Y5R8Q0V6M2K7T9XBCDEFG", map[string]string{"index.html": "x"})
		kept := mustDeploy(t, target, "My_Build", map[string]string{"index.html": "x"})
		away.Store(true)
		running(t, target)
		synctest.Wait() // the first sweep
		if w := get(target, gone); w.Code != 200 {
			t.Errorf("the store is away, and a preview returns status %d", w.Code)
		}
		away.Store(false)
		pass(sweepEvery)
		if w := get(target, gone); w.Code != 404 {
			t.Errorf("the build is deleted, and its preview returns status %d", w.Code)
		}
		if w := get(target, kept); w.Code != 200 {
			t.Errorf("the build exists, and its preview returns status %d", w.Code)
		}
	})
}
