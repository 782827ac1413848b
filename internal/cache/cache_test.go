package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("BUILDCAST_TEST_WRITER"); dir != "" {
		writeForever(dir)
	}
	goleak.VerifyTestMain(m)
}

var (
	people  = Scope{Org: "default", Project: "site"}
	planned = Scope{Org: "default", Project: "site", Planned: true}
	quiet   = slog.New(slog.DiscardHandler)
)

func open(t testing.TB, change ...func(*Config)) *Cache {
	t.Helper()
	cfg := Config{Dir: filepath.Join(t.TempDir(), "cache"), Logger: quiet}
	for _, ch := range change {
		ch(&cfg)
	}
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func key(values ...string) *Key {
	k := &Key{}
	for i, v := range values {
		k.Add(PartOther, fmt.Sprint(i), v)
	}
	return k
}

func put(t testing.TB, c *Cache, s Scope, k *Key, content string) {
	t.Helper()
	if err := c.PutBytes(t.Context(), s, k, Entry{Kind: KindMemo}, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func get(c *Cache, s Scope, k *Key) string {
	b, ok := c.GetBytes(context.Background(), s, k, 1<<20)
	if !ok {
		return "(absent)"
	}
	return string(b)
}

func TestWhatWasPutIsReturnedAlsoAfterARestart(t *testing.T) {
	c := open(t)
	put(t, c, people, key("a"), "content")
	put(t, c, people, key("empty"), "")
	again, err := Open(c.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Cache{c, again} {
		if got := get(c, people, key("a")); got != "content" {
			t.Errorf("got %q", got)
		}
		if got := get(c, people, key("empty")); got != "" {
			t.Errorf("got %q", got)
		}
		if got := get(c, people, key("b")); got != "(absent)" {
			t.Errorf("another key has %q", got)
		}
	}
}

func TestTheFirstWriterWinsUnlessItReplaces(t *testing.T) {
	c := open(t)
	put(t, c, people, key("a"), "first")
	put(t, c, people, key("a"), "second")
	if got := get(c, people, key("a")); got != "first" {
		t.Errorf("got %q", got)
	}
	err := c.Put(t.Context(), people, key("a"), Entry{}, map[string]Source{dataBlob: Bytes([]byte("third"))}, true)
	if got := get(c, people, key("a")); err != nil || got != "third" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestPoisoningByAPlannedBuild: what a planned build stores is read by planned builds
// only, also under the key of a person's build, and by no other project or org.
func TestPoisoningByAPlannedBuild(t *testing.T) {
	c := open(t)
	put(t, c, planned, key("a"), "poison")
	for _, s := range []Scope{people, {Org: "default", Project: "other", Planned: true}, {Org: "other", Project: "site", Planned: true}} {
		if got := get(c, s, key("a")); got != "(absent)" {
			t.Errorf("%+v reads %q", s, got)
		}
	}
	if got := get(c, planned, key("a")); got != "poison" {
		t.Errorf("the planned scope reads %q", got)
	}
	// Moving its file into the trusted scope does not help either.
	from, to := c.entryPath(planned, key("a").In(planned)), c.entryPath(people, key("a").In(people))
	if err := errors.Join(makeDir(filepath.Dir(to)), os.Rename(from, to)); err != nil {
		t.Fatal(err)
	}
	if got := get(c, people, key("a")); got != "(absent)" {
		t.Errorf("a moved entry is read: %q", got)
	}
	put(t, c, people, key("a"), "good")
	put(t, c, planned, key("a"), "poison")
	if got := get(c, planned, key("a")); got != "good" {
		t.Errorf("a planned build does not prefer the trusted entry: %q", got)
	}
}

// TestKeysAreUnambiguous: keys are equal if and only if they have the same parts.
func TestKeysAreUnambiguous(t *testing.T) {
	part := rapid.Custom(func(t *rapid.T) Part {
		s := rapid.SampledFrom([]string{"", "a", "b", "ab", "bc", "c", "a\x00b", "file"})
		return Part{s.Draw(t, "kind"), s.Draw(t, "name"), s.Draw(t, "value")}
	})
	of := func(parts []Part) *Key {
		k := &Key{}
		for _, p := range parts {
			k.Add(p.Kind, p.Name, p.Value)
		}
		return k
	}
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(part, 0, 4).Draw(t, "a")
		b := rapid.OneOf(rapid.Permutation(a), rapid.SliceOfN(part, 0, 4)).Draw(t, "b")
		count := map[Part]int{}
		for _, p := range a {
			count[p]++
		}
		for _, p := range b {
			count[p]--
		}
		equal := true
		for _, n := range count {
			equal = equal && n == 0
		}
		if same := of(a).In(people) == of(b).In(people); same != equal {
			t.Fatalf("%q and %q: the same key is %v", a, b, same)
		}
	})
}

// TestAKeyStaysTheSame: a change of it makes all that users have unreachable. If it is
// meant, change format too.
func TestAKeyStaysTheSame(t *testing.T) {
	k := key("a", "b")
	k.AddHidden(PartEnv, "MODE", "production")
	const want = "b875d51442c46eef0bb6396e8e998a0193ff746710aa00445d51ff34d37def4b"
	if got := k.In(planned).String(); got != want {
		t.Errorf("the key is %s", got)
	}
}

func TestAHiddenValueIsNotStored(t *testing.T) {
	c := open(t)
	k := key("a")
	k.AddHidden(PartEnv, "MODE", "s3cr3t-value")
	put(t, c, people, k, "x")
	if err := c.Note(t.Context(), Record{BuildID: "b1", Scope: people, Name: "t"}, k); err != nil {
		t.Fatal(err)
	}
	for _, p := range k.Parts() {
		if strings.Contains(p.Value, "s3cr3t") {
			t.Errorf("%+v", p)
		}
	}
	_ = filepath.WalkDir(c.config.Dir, func(path string, d fs.DirEntry, _ error) error {
		if b, _ := os.ReadFile(path); bytes.Contains(b, []byte("s3cr3t")) {
			t.Errorf("%s has the value", path)
		}
		return nil
	})
}

// blobs returns the paths of all blobs.
func blobs(t testing.TB, c *Cache) (paths []string) {
	t.Helper()
	if err := walk(t.Context(), c.path(blobsDir), func(p string, _ fs.FileInfo) { paths = append(paths, p) }); err != nil {
		t.Fatal(err)
	}
	return paths
}

// TestADamagedBlobIsAMiss: the entry is removed, and what is stored anew is good.
func TestADamagedBlobIsAMiss(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"changed": func(p string) error { return os.WriteFile(p, []byte("CONTENT"), 0o600) },
		"cut":     func(p string) error { return os.Truncate(p, 3) },
		"longer":  func(p string) error { return os.WriteFile(p, []byte("content and more"), 0o600) },
		"removed": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			put(t, c, people, key("a"), "content")
			if err := damage(blobs(t, c)[0]); err != nil {
				t.Fatal(err)
			}
			if got := get(c, people, key("a")); got != "(absent)" {
				t.Errorf("got %q", got)
			}
			if c.Get(people, key("a")) != nil {
				t.Error("the entry is still there")
			}
			put(t, c, people, key("a"), "content")
			if got := get(c, people, key("a")); got != "content" {
				t.Errorf("stored anew, it is %q", got)
			}
		})
	}
}

func TestADamagedEntryIsAMiss(t *testing.T) {
	c := open(t)
	put(t, c, people, key("a"), "content")
	path := c.entryPath(people, key("a").In(people))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := get(c, people, key("a")); got != "(absent)" {
			t.Fatalf("byte %d is changed, and it returns %q", i, got)
		}
	}
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte("x\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decodeChecked[Entry](b); err == nil && e == nil {
			t.Error("neither entry nor error")
		}
		_, _ = unpackParts(b)
	})
}

func TestContentStreamsThroughAndIsBounded(t *testing.T) {
	c := open(t, func(cfg *Config) { cfg.Max = 1 << 20 })
	err := c.Put(t.Context(), people, key("a"), Entry{}, map[string]Source{dataBlob: Reader(io.LimitReader(zeros{}, 2<<20))}, false)
	if !Full(err) {
		t.Errorf("got %v", err)
	}
	if left := temps(t, c); left > 0 {
		t.Errorf("%d temporary files are left", left)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the client is gone")
	cancel(gone)
	if err := c.Put(ctx, people, key("a"), Entry{}, map[string]Source{dataBlob: Reader(zeros{})}, false); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

func temps(t testing.TB, c *Cache) int {
	t.Helper()
	files, err := os.ReadDir(c.path(tempDir))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestOneOfSeveralWorks: callers with one key take turns, and only the first works.
func TestOneOfSeveralWorks(t *testing.T) {
	c := open(t)
	var worked, waited atomic.Int32
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			done, err := c.Turn(t.Context(), key("a").In(people), fmt.Sprint(i), func(string) { waited.Add(1) })
			if err != nil {
				t.Error(err)
				return
			}
			defer done()
			if c.Get(people, key("a")) == nil {
				worked.Add(1)
				put(t, c, people, key("a"), "x")
			}
		})
	}
	all.Wait()
	if n := worked.Load(); n != 1 {
		t.Errorf("%d worked", n)
	}
}

func TestWhoeverWaitsForATurnIsToldAndLeavesWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Cache{turns: turns{held: map[ID]*turn{}}}
		id := key("a").In(people)
		done, _ := c.Turn(t.Context(), id, "first", nil)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		told := make(chan string, 1)
		go func() {
			_, err := c.Turn(ctx, id, "second", func(holder string) { told <- holder })
			left <- err
		}()
		if holder := <-told; holder != "first" {
			t.Errorf("it waits for %s", holder)
		}
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		done()
		done() // twice does no harm
		if again, err := c.Turn(t.Context(), id, "third", nil); err != nil {
			t.Error(err)
		} else {
			again()
		}
	})
}

func TestWhyNamesWhatDiffers(t *testing.T) {
	c := open(t)
	note := func(build string, k *Key, cached bool) {
		t.Helper()
		if err := c.Note(t.Context(), Record{BuildID: build, Scope: people, Name: "compile", Cached: cached}, k); err != nil {
			t.Fatal(err)
		}
	}
	with := func(app, mode, node string, more ...string) *Key {
		k := &Key{}
		k.AddHidden(PartFile, "src/App.jsx", app)
		k.AddHidden(PartFile, "src/main.jsx", "same")
		k.AddHidden(PartEnv, "MODE", mode)
		k.Add(PartPlatform, "node", node)
		for _, m := range more {
			k.AddHidden(PartFile, m, "x")
		}
		return k
	}
	note("b1", with("1", "dev", "v20", "src/old.js"), false)
	if err := c.Kept(people, "b1", "compile"); err != nil {
		t.Fatal(err)
	}
	note("b2", with("2", "prod", "v22", "src/new.js"), false)
	note("b2", with("2", "prod", "v22", "src/new.js"), false) // it was resumed
	x, err := c.Why(t.Context(), "b2", "compile")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ch := range x.Changes {
		got = append(got, ch.String())
	}
	want := "src/App.jsx changed, src/new.js is new, src/old.js no longer exists, node changed from v20 to v22, variable MODE changed"
	if s := strings.Join(got, ", "); s != strings.Replace(want, "node", "platform node", 1) {
		t.Errorf("got %s", s)
	}
	if x.Before != "b1" {
		t.Errorf("compared with %q", x.Before)
	}
	if _, err := c.Why(t.Context(), "b9", "compile"); err == nil {
		t.Error("there is a record of a build that there was not")
	}
	if _, err := c.Why(t.Context(), "../b9", "compile"); err == nil {
		t.Error("a path is taken for a build")
	}
}

func TestListShowsTheLastUsedFirst(t *testing.T) {
	c := open(t)
	for i := range 7 {
		put(t, c, people, key(fmt.Sprint(i)), fmt.Sprint("content ", i))
		used := time.Now().Add(time.Duration(i-100) * time.Hour)
		if err := os.Chtimes(c.entryPath(people, key(fmt.Sprint(i)).In(people)), used, used); err != nil {
			t.Fatal(err)
		}
	}
	u, err := c.List(t.Context(), 3)
	if err != nil || u.Count != 7 || len(u.Entries) != 3 || u.Bytes < 14*4096 {
		t.Fatalf("%+v, %v", u, err)
	}
	for i, e := range u.Entries {
		if ago := time.Since(e.UsedAt.Std()).Round(time.Hour); ago != time.Duration(94+i)*time.Hour {
			t.Errorf("entry %d was used %v ago", i, ago)
		}
	}
}
