package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
)

// age makes everything in the cache older.
func age(t testing.TB, path string, by time.Duration) {
	t.Helper()
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		then := info.ModTime().Add(-by)
		return os.Chtimes(p, then, then)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func sweep(t testing.TB, c *Cache) buildcast.CachePruned {
	t.Helper()
	done, err := c.sweep(t.Context(), c.room)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func content(i int) string { return strings.Repeat(fmt.Sprintf("%09d ", i), 1000) } // 10,000 bytes: 3 blocks

// TestEviction: what was not used for longest goes first, until the rest fits.
func TestEviction(t *testing.T) {
	c := open(t, func(cfg *Config) { cfg.Max = 10 * 16384 })
	for i := range 20 {
		put(t, c, people, key(fmt.Sprint(i)), content(i))
		if i == 15 {
			age(t, c.config.Dir, 2*time.Hour)
			get(c, people, key("3")) // it is used again
		}
	}
	done := sweep(t, c)
	if done.Bytes > c.config.Max || done.Bytes != int64(20-done.Entries)*16384 {
		t.Errorf("%+v", done)
	}
	for i := range 20 {
		kept := get(c, people, key(fmt.Sprint(i))) == content(i)
		if want := i == 3 || i >= done.Entries+1; kept != want {
			t.Errorf("entry %d: kept is %v (%d were removed)", i, kept, done.Entries)
		}
	}
	if again := sweep(t, c); again.Entries != 0 || again.Bytes != done.Bytes {
		t.Errorf("a second sweep removes %+v", again)
	}
}

func TestReservedSpaceIsKeptAlsoIfTheDiskIsFull(t *testing.T) {
	c := open(t, func(cfg *Config) { cfg.Reserved, cfg.MinFree = 5*16384, 1<<60 })
	for i := range 20 {
		put(t, c, people, key(fmt.Sprint(i)), content(i))
	}
	if done := sweep(t, c); done.Bytes != c.config.Reserved {
		t.Errorf("%+v", done)
	}
}

func TestABlobStaysWhileSomethingNamesIt(t *testing.T) {
	c := open(t)
	put(t, c, people, key("a"), "shared")
	put(t, c, people, key("b"), "shared")
	if n := len(blobs(t, c)); n != 1 {
		t.Fatalf("there are %d blobs", n)
	}
	for i, name := range []string{"a", "b"} {
		if err := os.Remove(c.entryPath(people, key(name).In(people))); err != nil {
			t.Fatal(err)
		}
		age(t, c.path(blobsDir), 2*grace)
		sweep(t, c)
		if n := len(blobs(t, c)); n != 1-i {
			t.Errorf("after %d removals there are %d blobs", i+1, n)
		}
	}
}

// TestASweepLeavesWhatIsBeingStored: a blob without an entry stays while it is new or
// pinned, and if it was found again after the sweep began.
func TestASweepLeavesWhatIsBeingStored(t *testing.T) {
	c := open(t)
	b, unpin, err := c.putBlob(t.Context(), Bytes([]byte("x")), true)
	if err != nil {
		t.Fatal(err)
	}
	sweep(t, c)
	age(t, c.path(blobsDir), 2*grace)
	sweep(t, c)
	if !c.hasBlob(b) { // which also marks it as new
		t.Fatal("a pinned blob is removed")
	}
	unpin()
	if removed, _ := c.removeBlob(b.Digest, time.Now().Add(-time.Minute)); removed {
		t.Error("a blob is removed that was found again after the sweep began")
	}
	sweep(t, c)
	if len(blobs(t, c)) != 1 {
		t.Error("a new blob is removed")
	}
	age(t, c.path(blobsDir), 2*grace)
	sweep(t, c)
	if len(blobs(t, c)) != 0 {
		t.Error("an old blob without an entry stays")
	}
}

func TestASweepRemovesWhatACrashLeft(t *testing.T) {
	c := open(t)
	put(t, c, people, key("a"), "x")
	damaged := c.path(entriesDir, "half")
	for _, path := range []string{c.path(tempDir, "OLD"), damaged, c.path(blobsDir, "strange")} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writing, err := c.newTemp()
	if err != nil {
		t.Fatal(err)
	}
	sweep(t, c)
	if _, err := os.Stat(writing.path()); err != nil || temps(t, c) != 1 {
		t.Errorf("%d temporary files: %v", temps(t, c), err)
	}
	writing.discard()
	if _, err := os.Stat(damaged); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a damaged entry stays: %v", err)
	}
	if get(c, people, key("a")) != "x" || len(blobs(t, c)) != 1 {
		t.Error("what is good was removed, or what is strange was not")
	}
}

func TestOldRecordsAreRemoved(t *testing.T) {
	c := open(t)
	if err := c.Note(t.Context(), Record{BuildID: "b1", Scope: people, Name: "t"}, key("a")); err != nil {
		t.Fatal(err)
	}
	age(t, c.path(blobsDir), 2*grace)
	sweep(t, c)
	if _, err := c.Why(t.Context(), "b1", "t"); err != nil {
		t.Error(err)
	}
	age(t, c.config.Dir, recordAge)
	sweep(t, c)
	if _, err := c.Why(t.Context(), "b1", "t"); err == nil || len(blobs(t, c)) > 0 {
		t.Errorf("the record stays: %v", err)
	}
}

func TestPruneRemovesWhatWasNotUsedSince(t *testing.T) {
	c := open(t)
	put(t, c, people, key("old"), "1")
	age(t, c.config.Dir, 48*time.Hour)
	put(t, c, people, key("new"), "2")
	done, err := c.Prune(t.Context(), time.Now().Add(-24*time.Hour))
	if err != nil || done.Entries != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	if get(c, people, key("old")) != "(absent)" || get(c, people, key("new")) != "2" || len(blobs(t, c)) != 1 {
		t.Error("the wrong entry was removed")
	}
}

func TestRunSweepsSoonAfterTheCacheHasBecomeTooLarge(t *testing.T) {
	c := open(t, func(cfg *Config) { cfg.Max = 5 * 16384 })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	for i := range 30 {
		put(t, c, people, key(fmt.Sprint(i)), content(i))
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for used := int64(1 << 40); used > c.config.Max; {
		<-tick.C
		u, err := c.List(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		used = u.Bytes
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// writeForever is another process: it stores entries until it is killed.
func writeForever(dir string) {
	c, err := Open(Config{Dir: dir, Logger: quiet})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	go func() { _ = c.Run(ctx) }()
	for i := 0; ; i++ {
		k := key(strconv.Itoa(i % 50))
		s := []Scope{people, planned}[i%2]
		if err := c.Put(ctx, s, k, Entry{}, map[string]Source{"a": Bytes([]byte(content(i % 50))), "b": Bytes([]byte("b"))}, i%3 == 0); err != nil {
			panic(err)
		}
		if err := c.Note(ctx, Record{BuildID: "b" + strconv.Itoa(i%9), Scope: s, Name: "t"}, k); err != nil {
			panic(err)
		}
		fmt.Println(i)
	}
}

// TestKilledWhileStoring kills a process that stores, again and again: what can be
// read is whole, and sweeps remove the rest.
func TestKilledWhileStoring(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "BUILDCAST_TEST_WRITER="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 1)
		for range 5 + 17*round { // bytes of its output
			if _, err := out.Read(line); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		c, err := Open(Config{Dir: dir, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for i := range 50 {
			for _, s := range []Scope{people, planned} {
				e := c.get(s, key(strconv.Itoa(i)).In(s))
				if e == nil {
					continue
				}
				f, err := c.Content(t.Context(), e, "a")
				if err != nil {
					t.Fatal(err)
				}
				var b bytes.Buffer
				_, _ = b.ReadFrom(f)
				f.Close()
				if b.String() != content(i) {
					t.Errorf("entry %d has other content", i)
				}
				found++
			}
		}
		if found == 0 {
			t.Error("nothing is found")
		}
		sweep(t, c)
		if n := temps(t, c); n > 0 {
			t.Errorf("%d temporary files are left", n)
		}
	}
}

// TestADiskThatIsFull stores on a file system of 2 MiB: nothing is left behind, what
// was there stays readable, and there is room again after a sweep.
func TestADiskThatIsFull(t *testing.T) {
	const inside = "BUILDCAST_TEST_SMALL_DISK"
	if dir := os.Getenv(inside); dir != "" {
		fillDisk(t, dir)
		return
	}
	small := t.TempDir()
	cmd := exec.Command("bwrap", "--unshare-user", "--bind", "/", "/", "--dev-bind", "/dev", "/dev",
		"--size", strconv.Itoa(2<<20), "--tmpfs", small, "--setenv", inside, small,
		os.Args[0], "-test.run=^TestADiskThatIsFull$")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v (bubblewrap is installed by scripts/install-deps)\n%s", err, out)
	}
}

func fillDisk(t *testing.T, dir string) {
	c, err := Open(Config{Dir: dir, Logger: quiet, MinFree: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	put(t, c, people, key("first"), content(0))
	full := 0
	for i := range 300 {
		err := c.PutBytes(t.Context(), people, key(fmt.Sprint(i)), Entry{}, []byte(content(i+1)))
		if err != nil && !Full(err) {
			t.Fatal(err)
		}
		if err != nil {
			full++
		}
	}
	if full == 0 {
		t.Fatal("the disk does not become full")
	}
	if n := temps(t, c); n > 0 {
		t.Errorf("%d temporary files are left", n)
	}
	if get(c, people, key("first")) != content(0) {
		t.Error("what was there is lost")
	}
	select {
	case <-c.kick:
	default:
		t.Error("no sweep is due")
	}
	sweep(t, c)
	put(t, c, people, key("after"), content(500))
	if get(c, people, key("after")) != content(500) {
		t.Error("there is no room after a sweep")
	}
}
