package pipeline

import (
	"fmt"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/report"
)

// kept are the secrets of a test, by project and name.
type kept map[string]string

func (k kept) Secret(project, name string) (string, error) {
	if v, ok := k[project+"/"+name]; ok {
		return v, nil
	}
	return "", buildcast.Errorf(buildcast.NotFound, "secret %s does not exist: put it into the file %s", name, name).At("secrets")
}

// runWith is run with secrets.
func (r *rig) runWith(secrets Secrets, id string, plan *buildcast.Plan) []buildcast.Event {
	r.t.Helper()
	r.build(id, plan)
	stop := r.start(r.pipeline("solo", func(c *Config) { c.Secrets = secrets }))
	r.end(id)
	stop()
	return r.events(id)
}

// output returns the lines of all build_log events.
func outputOf(events []buildcast.Event) (all []string) {
	for _, e := range of(events, buildcast.BuildLog) {
		all = append(all, read[report.BuildLog](&e).Lines...)
	}
	return all
}

func TestEnvironment(t *testing.T) {
	r := newRig(t)
	t.Setenv("SERVERS_OWN", "not for commands")
	task := shell("show", `echo "$PLAN $BOTH $PATH $SERVERS_OWN|$CI|$npm_config_fund|$BUILDCAST_TASK"`)
	task.Env = map[string]string{"BOTH": "task", "PATH": "/opt/bin:/usr/bin:/bin"}
	other := shell("other", `echo "other: $BOTH $PATH"`, "show")
	events := r.run("b", &buildcast.Plan{
		Tasks: []buildcast.Task{task, other}, Env: map[string]string{"PLAN": "plan", "BOTH": "plan", "PATH": "/usr/bin:/bin", "CI": "true"},
		Build: "echo build: $BOTH", Deploy: buildcast.DeployNone,
	})
	got := strings.Join(outputOf(events), "\n")
	want := "plan task /opt/bin:/usr/bin:/bin |true|false|show\nother: plan /usr/bin:/bin\nbuild: plan"
	if got != want {
		t.Errorf("the commands see\n%s\nwant\n%s", got, want)
	}
}

// TestSecretsAreHidden: commands print a secret in each way that is promised to be
// hidden, and fail with it.
func TestSecretsAreHidden(t *testing.T) {
	const value, key = `p4ss+w/rd "x" & y`, "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n-----END KEY-----"
	r := newRig(t)
	plain := shell("plain", `set -x; echo "$TOKEN"; echo "<$TOKEN>" >&2; printf '%s\n' "$KEY" | sed 's/^/key: /'; printf '%s' "$TOKEN" >token`)
	plain.Secrets = []string{"TOKEN", "KEY"}
	slow := shell("byte by byte", `i=0; while [ $i -lt ${#TOKEN} ]; do i=$((i+1)); printf '%s' "$TOKEN" | cut -c$i | tr -d '\n'; sleep 0.01; done; echo`, "plain")
	slow.Secrets = []string{"TOKEN"}
	coded := shell("encoded", `for p in "" a ab abc; do printf '%s%s' "$p" "$TOKEN" | base64; done; printf '%s' "$TOKEN" | od -An -tx1 -v | tr -d ' \n'; echo
		node -p 'encodeURIComponent(process.env.TOKEN)+" "+JSON.stringify(process.env)+" "+Buffer.from(process.env.TOKEN).toString("base64url")'`, "plain")
	coded.Secrets = []string{"TOKEN"}
	// Without the secret, but with what another task has kept of it.
	other := shell("other", `cat token; echo; cat token; exit 3`, "byte by byte", "encoded")
	events := r.runWith(kept{"test/TOKEN": value, "test/KEY": key}, "b", &buildcast.Plan{Tasks: []buildcast.Task{plain, slow, coded, other}})

	all := lines(events)
	for _, leak := range []string{
		"p4ss", "MIIEvQ", `w/rd`, "w%2Frd", "cDRzcyt3L3JkICJ4IiAmIHk", "BwNHNzK3cvcmQ", "A0c3Mrdy9yZCAi", "NHNzK3cvcmQg", "703473732b772f7264",
	} {
		if strings.Contains(all, leak) {
			t.Errorf("%q is in the log", leak)
		}
	}
	if n := strings.Count(all, "***"); n < 12 {
		t.Errorf("only %d values are hidden:\n%s", n, all)
	}
	last := events[len(events)-1]
	if f := read[report.TaskFailed](&last); f.TaskName != "other" || f.Output != "***\n***" {
		t.Errorf("the build ends with %+v\n%s", f, all)
	}
}

func TestSecretsThatAreMissing(t *testing.T) {
	for name, c := range map[string]struct {
		secrets Secrets
		plan    buildcast.Plan
		want    string
	}{
		"unknown":   {kept{}, buildcast.Plan{Secrets: []string{"TOKEN"}, Build: "true"}, "secret TOKEN does not exist: put it into the file TOKEN"},
		"no server": {nil, buildcast.Plan{Secrets: []string{"TOKEN"}, Build: "true"}, "start it with --secrets-dir DIR, and put the value into the file DIR/TOKEN"},
		"planned": {
			kept{"test/TOKEN": "value"},
			buildcast.Plan{Secrets: []string{"TOKEN"}, Tasks: []buildcast.Task{{Name: "t", Prompt: "make a page"}}},
			"a build in which a planner has a part gets no secrets",
		},
		"too much": {
			kept{"test/A": strings.Repeat("x", maxSecrets), "test/B": "more"}, buildcast.Plan{Secrets: []string{"A", "B"}, Build: "true"}, "more than 32768 bytes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			events := r.runWith(c.secrets, "b", &c.plan)
			last := events[len(events)-1]
			if f := read[report.BuildFailed](&last); last.Type != buildcast.BuildFailed || !strings.Contains(f.Error, c.want) {
				t.Errorf("events\n%s", lines(events))
			}
			if strings.Contains(lines(events), "task_started") {
				t.Error("tasks run before the secrets are known")
			}
		})
	}
}

// TestOnlyWhoAsksGetsASecret: a task sees its own secrets and the plan's.
func TestOnlyWhoAsksGetsASecret(t *testing.T) {
	r := newRig(t)
	count := `echo "$BUILDCAST_TASK ${#MINE} ${#ALL}"`
	mine := shell("mine", count)
	mine.Secrets = []string{"MINE"}
	events := r.runWith(kept{"test/MINE": "12345", "test/ALL": "1234567"}, "b", &buildcast.Plan{
		Tasks: []buildcast.Task{mine, shell("other", count, "mine")}, Secrets: []string{"ALL"}, Build: count, Deploy: buildcast.DeployNone,
	})
	if got := fmt.Sprint(outputOf(events)); got != "[mine 5 7 other 0 7 build 0 7]" {
		t.Errorf("the commands see %s", got)
	}
}
