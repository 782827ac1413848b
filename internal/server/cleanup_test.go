package server

import (
	"net/http"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cleanup"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/deploy/cloudflare/cloudflaretest"
)

// A running server cleans up when it is asked with a key; a server that does not run
// cleans its data directory.
func TestCleanUp(t *testing.T) {
	fake := &cloudflaretest.Fake{}
	base, stop := fake.Start()
	defer stop()
	cfg := settings(t)
	cfg.APIKeys = []string{"a-key-of-16-characters"}
	cfg.Cloudflare = config.Cloudflare{APIToken: cloudflaretest.Token, AccountID: cloudflaretest.Account, Project: "preview", ProductionBranch: "main", BaseURL: base}
	s, end := start(t, cfg)
	transport := client.HTTPClient(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}})
	c, err := client.New(s.URL(), transport, client.APIKey(cfg.APIKeys[0]))
	if err != nil {
		t.Fatal(err)
	}
	for id, target := range map[string]string{"a1": buildcast.DeployLocal, "b1": buildcast.DeployLocal, "c1": buildcast.DeployCloudflare} {
		plan := &buildcast.Plan{Name: id, Deploy: target, Tasks: []buildcast.Task{{Name: "page", Files: map[string]buildcast.File{"index.html": {Content: []byte(id)}}}}}
		if _, err := c.CreateBuild(t.Context(), client.CreateBuild{ID: id, Plan: plan}); err != nil {
			t.Fatal(err)
		}
		for _, err := range c.Follow(t.Context(), id, 0) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	unlock := fake.Lock()
	for _, branch := range []string{"feature", "main"} {
		fake.Deployments = append(fake.Deployments, &cloudflaretest.Deployment{ID: branch, Branch: branch, Created: time.Now().Add(-time.Hour)})
	}
	unlock()
	removed := func(c *client.Client, what client.Cleanup) (map[string]int, error) {
		counts := map[string]int{}
		for step, err := range c.Cleanup(t.Context(), what) {
			if err != nil {
				return counts, err
			}
			if step.Removed != nil {
				counts[step.Part] = step.Removed.Count
			}
			if step.Error != "" {
				t.Errorf("%+v", step)
			}
		}
		return counts, nil
	}
	if n, err := removed(c, client.Cleanup{OlderThan: "7d"}); err != nil || n["previews"]+n["workspaces"]+n["cloudflare"] != 0 || len(n) != 4 {
		t.Errorf("of the last week %v are removed, %v", n, err)
	}
	all := client.Cleanup{OlderThan: "1ns", DryRun: true}
	if n, err := removed(c, all); err != nil || n["previews"] != 2 || n["workspaces"] != 3 || n["cloudflare"] != 1 {
		t.Errorf("%v would be removed, %v", n, err)
	}
	if n, err := removed(c, client.Cleanup{OlderThan: "1ns", Branch: "build-a*"}); err != nil || n["previews"] != 1 || n["workspaces"] != 1 || n["cloudflare"] != 0 {
		t.Errorf("of one build %v are removed, %v", n, err)
	}
	for _, bad := range []client.Cleanup{{Branch: "main"}, {OlderThan: "soon"}} {
		if _, err := removed(c, bad); buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	stranger, err := client.New(s.URL(), transport)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := removed(stranger, all); buildcast.CodeOf(err) != buildcast.Unauthenticated {
		t.Errorf("without a key: %v", err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}

	s, err = New(t.Context(), cfg, "test", s.logger)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := map[string]int{}
	err = s.Cleanup(t.Context(), cleanup.Request{OlderThan: time.Nanosecond}, func(l cleanup.Line) {
		if l.Removed != nil {
			n[l.Part] = l.Removed.Count
		}
	})
	if err != nil || n["previews"] != 1 || n["workspaces"] != 2 || n["cloudflare"] != 1 {
		t.Errorf("without a running server %v are removed, %v", n, err)
	}
	if len(fake.Deployments) != 2 {
		t.Errorf("%d deployments are left at Cloudflare", len(fake.Deployments))
	}
}
