package server

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/deploy/cloudflare/cloudflaretest"
)

// A build goes to Cloudflare's stand-in: each step is an event, and the token is in
// none of them, nor in the log.
func TestBuildDeploysToCloudflare(t *testing.T) {
	fake := &cloudflaretest.Fake{}
	base, stop := fake.Start()
	defer stop()
	cfg := settings(t)
	cfg.Cloudflare = config.Cloudflare{APIToken: cloudflaretest.Token, AccountID: cloudflaretest.Account, Project: "preview", ProductionBranch: "main", BaseURL: base}
	var logs bytes.Buffer
	s, end := startLogging(t, cfg, slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	const plan = `{"id":"b1","plan":{"name":"site","tasks":[{"name":"page","files":{"index.html":"<h1>hi</h1>"}}],"deploy":"cloudflare"}}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/api/builds", strings.NewReader(plan))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	var log struct {
		Events      []buildcast.Event
		LastEventID int64
	}
	var types []string
	last, text := int64(0), ""
	for deadline := time.Now().Add(time.Minute); !strings.Contains(text, buildcast.DeployCompleted) && !strings.Contains(text, "failed"); {
		if time.Now().After(deadline) {
			t.Fatalf("the build does not end: %v", types)
		}
		_, text = get(t, s.URL()+"/api/builds/b1/events?wait=5s&lastEventId="+strconv.FormatInt(last, 10))
		if err := json.Unmarshal([]byte(text), &log); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		for _, e := range log.Events {
			types = append(types, e.Type)
			if strings.Contains(string(e.Data), cloudflaretest.Token) {
				t.Errorf("the token is in %s %s", e.Type, e.Data)
			}
			if e.Type == buildcast.DeployCompleted && string(e.Data) != `{"target":"cloudflare","previewUrl":"https://d1.pages.test","ref":"d1"}` {
				t.Errorf("completed with %s", e.Data)
			}
		}
		last = log.LastEventID
	}
	if all := strings.Join(types, " "); !strings.Contains(all, "task_completed deploy_started build_started deploy_progress") || !strings.HasSuffix(all, "deploy_progress deploy_completed") {
		t.Errorf("events %s", all)
	}
	if d := fake.Deployments[0]; d.Branch != "build-b1" || fake.Site(d)["/index.html"] != "<h1>hi</h1>" {
		t.Errorf("deployed %+v", d)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if strings.Contains(logs.String(), cloudflaretest.Token) {
		t.Error("the token is in the log")
	}
}
