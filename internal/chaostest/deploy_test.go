package chaostest

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/deploy/cloudflare/cloudflaretest"
)

// cloudflareNode is a server that deploys to the fake.
func cloudflareNode(t *testing.T, fake *cloudflaretest.Fake) *node {
	t.Helper()
	base, stop := fake.Start()
	t.Cleanup(stop)
	t.Setenv("CLOUDFLARE_API_TOKEN", cloudflaretest.Token)
	t.Setenv("CLOUDFLARE_ACCOUNT_ID", cloudflaretest.Account)
	t.Setenv("CLOUDFLARE_API_BASE_URL", base)
	return newNode(t, "")
}

func deployPlan(dir string) *buildcast.Plan {
	return &buildcast.Plan{Name: "site", Output: "site", Deploy: buildcast.DeployCloudflare, Tasks: []buildcast.Task{
		{Name: "page", Files: map[string]buildcast.File{"site/index.html": {Content: []byte("<h1>hi</h1>")}}},
		{Name: "more", Needs: []string{"page"}, Run: "cp -R " + dir + "/. site/"},
	}}
}

// The server is killed with SIGKILL in each step of a deploy, when the service has taken
// a request and has not answered it, or has answered it. The build goes on, and there is
// one deployment.
func TestKillWhileDeploying(t *testing.T) {
	for _, step := range []struct {
		name, request string
		after         bool // the service has done what it was asked
	}{
		{"before the project is looked up", "GET /projects/buildcast-preview", false},
		{"before the upload token", "GET /upload-token", false},
		{"before the missing files are known", "POST /check-missing", false},
		{"during the upload", "POST /assets/upload", false},
		{"after the upload", "POST /assets/upload", true},
		{"before the hashes are noted", "POST /upsert-hashes", false},
		{"before the deployment", "POST /deployments", false},
		{"after the deployment", "POST /deployments", true},
		{"while waiting", "GET /deployments/d1", false},
	} {
		t.Run(step.name, func(t *testing.T) {
			method, suffix, _ := strings.Cut(step.request, " ")
			fake := &cloudflaretest.Fake{}
			reached, killed := make(chan struct{}), make(chan struct{})
			fake.Hold = func(r *http.Request, answered bool) {
				if answered != step.after || r.Method != method || !strings.HasSuffix(r.URL.Path, suffix) {
					return
				}
				select {
				case <-reached: // it was killed here before
				default:
					close(reached)
					<-killed
					panic(http.ErrAbortHandler) // what the dead server asked for is not done now
				}
			}
			n := cloudflareNode(t, fake)
			n.start()
			c := n.client()
			dir := t.TempDir()
			for i := range 20 {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i, ".txt")), fmt.Append(nil, i), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := c.CreateBuild(t.Context(), client.CreateBuild{ID: "b1", Plan: deployPlan(dir)}); err != nil {
				t.Fatal(err)
			}
			<-reached
			n.kill()
			close(killed)
			n.start()
			types := map[string]int{}
			var last buildcast.Event
			for e, err := range c.Follow(t.Context(), "b1", 0) {
				if err != nil {
					t.Fatal(err)
				}
				types[e.Type]++
				last = e
			}
			if last.Type != buildcast.DeployCompleted || types[buildcast.DeployStarted] != 1 || types[buildcast.TaskCompleted] != 2 {
				t.Errorf("%v, ended with %s %s", types, last.Type, last.Data)
			}
			defer fake.Lock()()
			if len(fake.Deployments) != 1 || len(fake.Deployments[0].Manifest) != 21 {
				t.Errorf("%d deployments", len(fake.Deployments))
			}
		})
	}
}

// A site of 2,000 files and 200 MB is deployed by a real server with at most 150 MB of
// memory above what it has idle, and a second deploy uploads nothing.
func TestMemoryOfALargeDeploy(t *testing.T) {
	fake := &cloudflaretest.Fake{Forgetful: true}
	n := cloudflareNode(t, fake)
	dir := t.TempDir()
	const files, size = 2000, 100 << 10
	content := make([]byte, size)
	for i := range files {
		_, _ = rand.Read(content[:1<<10]) // another hash for each
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i, ".bin")), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.start()
	idle := n.memory("VmRSS")
	c := n.client()
	deploy := func(id string) (uploads int, took time.Duration) {
		began := time.Now()
		if _, err := c.CreateBuild(t.Context(), client.CreateBuild{ID: id, Plan: deployPlan(dir)}); err != nil {
			t.Fatal(err)
		}
		var last buildcast.Event
		for e, err := range c.Follow(t.Context(), id, 0) {
			if err != nil {
				t.Fatal(err)
			}
			last = e
		}
		if last.Type != buildcast.DeployCompleted {
			t.Fatalf("%s ended with %s %s", id, last.Type, last.Data)
		}
		defer fake.Lock()()
		return fake.Uploads, time.Since(began)
	}
	uploads, took := deploy("b1")
	peak := n.memory("VmHWM")
	again, second := deploy("b2")
	t.Logf("a site of %d files and %d MB: %d MB above the idle server's %d MB; %v, and %v again", files, files*size>>20, (peak-idle)>>20, idle>>20, took.Round(time.Millisecond), second.Round(time.Millisecond))
	if uploads != files+1 || again != uploads {
		t.Errorf("%d files were uploaded, then %d more", uploads, again-uploads)
	}
	if peak-idle > 150<<20 {
		t.Errorf("%d MB above idle, at most 150 are allowed", (peak-idle)>>20)
	}
}

// memory returns a value of /proc/PID/status, in bytes.
func (n *node) memory(name string) int64 {
	n.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name+":" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib << 10
		}
	}
	n.t.Fatalf("no %s", name)
	return 0
}
