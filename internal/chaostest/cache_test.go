package chaostest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
)

// The server is killed with SIGKILL while the cache stores a task's outputs, and while
// they are restored. What the cache has then is whole. Each build goes on and has all
// files and no others, and in the end they come from the cache.
func TestKillWhileTheCacheWorks(t *testing.T) {
	n := newNode(t, "", "--sandbox", "auto")
	n.start()
	stored, restored := 0, 0
	for round := range rounds(t, 2) {
		content := fmt.Sprint("content of round ", round)
		create := func(name string) (id string) {
			id = fmt.Sprint(name, round)
			b := client.CreateBuild{ID: id, Project: "site", Plan: manyOutputs(content)}
			if _, err := n.client().CreateBuild(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			return id
		}
		killWhen := func(what string, now func() bool) {
			watchUntil(t, what, now)
			n.kill()
			n.checkCache()
		}
		id := create("store")
		last := filepath.Join(n.dataDir(), "builds", id, "work", "dist", fmt.Sprint(outputFiles-1))
		killWhen("outputs are stored", func() bool {
			_, err := os.Stat(last)
			return err == nil && n.packing() > 0
		})
		stored += n.packing()
		n.start()
		n.finish(id)

		id = create("restore")
		dist := filepath.Join(n.dataDir(), "builds", id, "work", "dist", "*")
		count := func() int { found, _ := filepath.Glob(dist); return len(found) }
		killWhen("outputs are restored", func() bool { return count() > 0 })
		if count() < outputFiles {
			restored++
		}
		n.start()
		n.finish(id)

		if !n.finish(create("last")) {
			t.Errorf("round %d: the outputs do not come from the cache in the end", round)
		}
	}
	waitUntil(t, "no temporary files are left", func() bool { return n.packing() == 0 })
	t.Logf("killed in the middle of %d stores and %d restores", stored, restored)
	if stored == 0 || restored == 0 {
		t.Error("the test did not test")
	}
}

const outputFiles = 1500

// manyOutputs is a plan that makes many files, and checks that there are no others. Only
// the shell itself works: processes would take longer than the cache.
func manyOutputs(content string) *buildcast.Plan {
	return &buildcast.Plan{Name: "site", Deploy: buildcast.DeployNone, Tasks: []buildcast.Task{
		{
			Name: "make", Outputs: []string{"dist"}, Files: map[string]buildcast.File{"in": {Content: []byte(content + "\n")}},
			Run: fmt.Sprintf("set -e; mkdir dist; read -r in <in; cd dist; i=0; while [ $i -lt %d ]; do echo $in $i >$i; i=$((i+1)); done", outputFiles),
		},
		{Name: "check", Needs: []string{"make"}, Run: fmt.Sprintf(
			`read -r in <in && cd dist && set -- * && test $# = %d && for f; do read -r line <$f && test "$line" = "$in $f" || exit 1; done`, outputFiles)},
	}}
}

// watchUntil looks each millisecond: what it waits for is over soon.
func watchUntil(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited two minutes until %s", what)
		}
		pause(time.Millisecond)
	}
}

// packing returns how many files the cache is writing.
func (n *node) packing() int {
	files, _ := os.ReadDir(filepath.Join(n.dataDir(), "cache", "temp"))
	return len(files)
}

// checkCache checks that each entry of the cache is whole: its checksum, and the content
// that it names.
func (n *node) checkCache() {
	n.t.Helper()
	cache := filepath.Join(n.dataDir(), "cache")
	_ = filepath.WalkDir(filepath.Join(cache, "entries"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		sum, text, _ := bytes.Cut(b, []byte("\n"))
		var entry struct {
			Blobs map[string]struct{ Digest string }
		}
		if err != nil || hexSum(text) != string(sum) || json.Unmarshal(text, &entry) != nil || len(entry.Blobs) == 0 {
			n.t.Errorf("an entry is not whole: %q, %v", b, err)
		}
		for name, blob := range entry.Blobs {
			content, err := os.ReadFile(filepath.Join(cache, "blobs", blob.Digest[:2], blob.Digest))
			if err != nil || hexSum(content) != blob.Digest {
				n.t.Errorf("%s of an entry is not whole: %v", name, err)
			}
		}
		return nil
	})
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// finish waits for the build's end, and reports whether a task was cached.
func (n *node) finish(id string) (cached bool) {
	n.t.Helper()
	c := n.client()
	if st := followed(n.t, c, id); st.Phase != buildcast.Completed {
		n.t.Fatalf("%s: %+v", id, st)
	}
	for _, e := range readAll(n.t, c, id) {
		cached = cached || e.Type == buildcast.TaskCompleted && bytes.Contains(e.Data, []byte(`"cached":true`))
	}
	return cached
}
