package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/config"
)

// A build is handed to the operator's program: what that prints is in the log, without
// its secrets, and its last line is the build's address.
func TestBuildDeploysToACommand(t *testing.T) {
	cfg := settings(t)
	to := t.TempDir()
	cfg.Deploy = config.Deploy{
		Command: `set -e; echo "token $TOKEN"; cp "$BUILDCAST_OUTPUT/index.html" "$TO/"; [ "$BUILDCAST_PROJECT" != broken ] || exit 9; echo "https://$BUILDCAST_BUILD_ID.example.com/"`,
		Timeout: time.Minute, Variables: map[string]string{"TOKEN": "a-secret-token", "TO": to},
	}
	s, end := start(t, cfg)
	c, err := client.New(s.URL(), client.HTTPClient(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}))
	if err != nil {
		t.Fatal(err)
	}
	build := func(id string) (last buildcast.Event, log string) {
		plan := &buildcast.Plan{Name: id, Deploy: buildcast.DeployCommand, Tasks: []buildcast.Task{{Name: "page", Files: map[string]buildcast.File{"index.html": {Content: []byte("hi")}}}}}
		if _, err := c.CreateBuild(t.Context(), client.CreateBuild{ID: id, Project: id, Plan: plan}); err != nil {
			t.Fatal(err)
		}
		for e, err := range c.Follow(t.Context(), id, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(e.Data), "a-secret-token") {
				t.Errorf("the token is in %s %s", e.Type, e.Data)
			}
			if e.Type == buildcast.BuildLog {
				log += string(e.Data)
			}
			last = e
		}
		return last, log
	}
	last, log := build("bakery")
	if last.Type != buildcast.DeployCompleted || string(last.Data) != `{"target":"command","previewUrl":"https://bakery.example.com/"}` {
		t.Errorf("the build ends with %s %s", last.Type, last.Data)
	}
	if !strings.Contains(log, `"stage":"deploy"`) || !strings.Contains(log, `"token ***"`) {
		t.Errorf("log %s", log)
	}
	last, _ = build("broken")
	var failed struct {
		Target   string
		Error    string
		ExitCode int
		Output   string
	}
	if err := json.Unmarshal(last.Data, &failed); err != nil || last.Type != buildcast.DeployFailed {
		t.Fatalf("the build ends with %s %s", last.Type, last.Data)
	}
	if failed.Target != "command" || failed.ExitCode != 9 || failed.Output != "token ***" || failed.Error != "the command ended with exit code 9" {
		t.Errorf("%+v", failed)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}
