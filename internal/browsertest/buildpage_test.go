package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
)

// buildPage is a server, and the dashboard's page of one of its builds.
type buildPage struct {
	*browser
	t      *testing.T
	ctx    context.Context
	server string
	build  string
	client *client.Client
	tab    tab
}

func newBuildPage(t *testing.T, build string) *buildPage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	server := startServer(t)
	c, err := client.New(server)
	if err != nil {
		t.Fatal(err)
	}
	return &buildPage{browser: startBrowser(ctx, t), t: t, ctx: ctx, server: server, build: build, client: c}
}

func (p *buildPage) look() { p.tab = p.open(p.t, p.server+"/builds/"+p.build) }

// until waits for a JavaScript condition; $ finds an element by its id, all finds by selector.
func (p *buildPage) until(condition string) {
	p.t.Helper()
	const names = `(($, all) => (%s))((id) => document.getElementById(id), (selector) => [...document.querySelectorAll(selector)])`
	p.await(p.t, p.tab, fmt.Sprintf(names, condition))
}

func (p *buildPage) report(batch ...buildcast.NewEvent) {
	p.t.Helper()
	for len(batch) > 0 {
		n := min(len(batch), 1000)
		if _, err := p.client.Append(p.ctx, p.build, batch[:n]...); err != nil {
			p.t.Fatal(err)
		}
		batch = batch[n:]
	}
}

func event(kind, data string) buildcast.NewEvent {
	return buildcast.NewEvent{Type: kind, Data: json.RawMessage(data)}
}

// Issue 8, 20: a build that does not exist is not shown as queued, cannot be
// cancelled, and appears with its first event.
func TestPageOfNoSuchBuild(t *testing.T) {
	t.Parallel()
	p := newBuildPage(t, "nope")
	p.look()
	p.until(`$('state')?.textContent === 'No such build yet' && $('link').textContent === 'waiting · WebSocket'`)
	p.until(`$('cancel').hidden && !$('notice').hidden && $('notice').querySelector('a').href === location.origin + '/'`)
	p.until(`!/queued/i.test(document.body.innerText)`)
	p.report(event(buildcast.PlanStarted, `{}`))
	p.until(`$('state').textContent === 'Planning' && !$('cancel').hidden && $('notice').hidden && /^live/.test($('link').textContent)`)
}

// Issue 8, 20: while the server does not answer, the page shows no state of the build.
func TestPageWithoutServer(t *testing.T) {
	t.Parallel()
	p := newBuildPage(t, "b1")
	front := unreachable(t, p.server)
	p.server = front
	p.look()
	p.until(`/does not answer/.test($('notice')?.textContent) && !$('notice').hidden`)
	p.until(`$('cancel').hidden && $('state').textContent === '' && !/queued|no such build/i.test(document.body.innerText)`)
}

// Issue 8, 38: an event's data is untrusted. Nothing throws, and no line is lost.
func TestPageOfHostileEvents(t *testing.T) {
	t.Parallel()
	p := newBuildPage(t, "hostile")
	values := []string{
		`null`, `true`, `0`, `-1`, `2.5`, `1e300`, `""`, `"text"`, `"\u001b[31m<b>&"`, `[]`, `[null,{"a":[1]},[[]]]`, `{}`,
		`{"toLocaleString":1}`, `{"toString":1}`, `{"valueOf":{"a":1},"toString":null}`, `{"length":1e9}`, `{"name":{"toString":1}}`,
		`[{"toString":1}]`, `[{"name":{"name":1}}]`, `{"__proto__":{"toString":1}}`, `"javascript:alert(1)"`,
	}
	fields := []string{
		"message", "error", "taskName", "attempt", "willRetry", "durationMs", "taskCount", "tasks", "filesCreated", "stage", "done",
		"percent", "target", "previewUrl", "lines", "line", "dropped", "progress", "name",
	}
	kinds := []string{
		"build_log", buildcast.PlanGenerated, buildcast.TaskStarted, buildcast.TaskCompleted, buildcast.BuildProgress, buildcast.DeployStarted,
		"constructor", "to_string",
	}
	var batch []buildcast.NewEvent
	lines := 0
	for _, value := range values {
		for _, kind := range kinds {
			batch = append(batch, event(kind, value))
			for _, field := range fields {
				batch = append(batch, event(kind, fmt.Sprintf(`{%q:%s}`, field, value)))
			}
		}
		batch = append(batch, event(buildcast.TaskFailed, fmt.Sprintf(`{"willRetry":true,"taskName":%s,"error":%[1]s,"durationMs":%[1]s}`, value)))
		for _, field := range fields {
			if field != "line" && field != "lines" {
				batch = append(batch, event("build_log", fmt.Sprintf(`{%q:%s,"line":"line %d"}`, field, value, lines)))
				lines++
			}
		}
	}
	p.look()
	p.until(`$('state')?.textContent === 'No such build yet'`)
	p.report(batch...)
	check := func() {
		t.Helper()
		p.until(`new Set(all('#log .chunk').map((each) => /line (\d+)$/.exec(each.textContent)?.[1]).filter(Boolean)).size === ` + fmt.Sprint(lines))
		p.until(`all('#rows .label').length > 0 && all('#events .type').length > 0`)
		p.until(`thrown.length === 0 || (() => { throw new Error(thrown.join()); })()`)
	}
	check()
	p.report(event(buildcast.BuildFailed, `{"error":{"toString":1},"stage":{"toString":1}}`))
	p.until(`$('state').textContent === 'Failed' && !$('replay').hidden`)
	check()
	p.eval(t, p.tab, `document.getElementById('seek').value = 0; document.getElementById('seek').dispatchEvent(new Event('input'))`)
	p.eval(t, p.tab, `document.getElementById('speed').value = 50; document.getElementById('play').click()`)
	p.until(`$('play').textContent === 'Replay' && $('state').textContent === 'Failed'`)
	check()
}

// Issue 8, 38: only the visible rows of thousands are drawn, and at most a hundred of
// the many thousand bars of a row.
func TestTimelineDrawsWhatIsInView(t *testing.T) {
	t.Parallel()
	const tasks, attempts = 9002, 3000
	p := newBuildPage(t, "wide")
	p.report(event(buildcast.PlanStarted, `{}`))
	batch := make([]buildcast.NewEvent, 0, tasks+2*attempts)
	for i := range tasks {
		batch = append(batch, event(buildcast.TaskStarted, fmt.Sprintf(`{"taskName":"task %d"}`, i)))
	}
	for i := range attempts {
		batch = append(batch,
			event(buildcast.TaskFailed, `{"taskName":"task 0","willRetry":true}`),
			event(buildcast.TaskStarted, fmt.Sprintf(`{"taskName":"task 0","attempt":%d}`, i+2)))
	}
	p.report(batch...)
	p.look()
	const few = `all('#rows li').length < 50 && all('#rows .bar').length < 200`
	p.until(`all('#rows .label')[1]?.textContent === 'task 0' && all('#rows li')[2].querySelectorAll('.bar').length === 100 && ` + few)
	p.until(fmt.Sprintf(`$('rows').scrollHeight > %d`, tasks*26))
	p.eval(t, p.tab, `document.getElementById('rows').scrollTop = 26 * 5000`)
	p.until(`all('#rows .label').some((each) => each.textContent === 'task 5000') && !all('#rows .label').some((each) => each.textContent === 'task 0') && ` + few)
	p.until(fmt.Sprintf(`all('#rows li[aria-posinset="5002"]')[0]?.getAttribute('aria-setsize') === '%d'`, tasks+1))
	p.eval(t, p.tab, `document.getElementById('rows').scrollTop = 1e9`)
	p.until(fmt.Sprintf(`all('#rows .label').at(-1).textContent === 'task %d' && `, tasks-1) + few)
	p.until(`thrown.length === 0`)
}

// Issue 8, 25: if another attempt follows, a failed attempt is not a failed task.
func TestTimelineOfARetry(t *testing.T) {
	t.Parallel()
	p := newBuildPage(t, "again")
	p.report(event(buildcast.PlanGenerated, `{"taskCount":1}`), event(buildcast.TaskStarted, `{"taskName":"compile"}`),
		event(buildcast.TaskFailed, `{"taskName":"compile","willRetry":true,"error":"exit status 7"}`))
	p.look()
	p.until(`all('#rows li[data-state=retried]').length === 1 && all('#rows li[data-state=retried] .took')[0].textContent === 'retrying'`)
	p.until(`all('#rows [data-state=failed]').length === 0 && all('#events .bad').length === 0`)
	p.until(`all('#events .type')[0].textContent === 'task attempt failed' && /the next attempt follows/.test(all('#events .what')[0].textContent)`)
	p.until(`$('took-name').textContent === 'Running for'`)
	p.report(event(buildcast.BuildCancelled, `{}`))
	p.until(`all('#rows li[data-state=stopped]').length === 1 && $('took-name').textContent === 'Took'`)
}

// A new build under the id of a deleted one is shown without the events of the old
// build, and the page reports which events are no longer kept.
func TestPageOfABuildMadeAgain(t *testing.T) {
	t.Parallel()
	p := newBuildPage(t, "again")
	p.report(event(buildcast.PlanStarted, `{}`), event("build_log", `{"line":"of the old build"}`), event(buildcast.BuildCompleted, `{}`))
	p.look()
	p.until(`$('state')?.textContent === 'Completed' && all('#log .chunk').length === 1`)
	p.remove()
	p.look()
	p.until(`$('state')?.textContent === 'No such build yet' && all('#log .chunk').length === 0 && $('percent').textContent === '–'`)
	p.report(event(buildcast.PlanStarted, `{}`), event("build_log", `{"line":"of the new build"}`))
	const gone = `Events 1–3 are no longer kept.`
	p.until(`$('state').textContent === 'Planning' && all('#log .chunk').map((each) => each.textContent).join() === '` + gone + `,of the new build'`)
	p.until(`all('#events .nothing')[0]?.textContent === '` + gone + `' && $('state').textContent === 'Planning'`)
	p.report(event(buildcast.BuildCompleted, `{}`))
	p.until(`$('state').textContent === 'Completed' && !/old build/.test(document.body.innerText)`)
	p.until(`thrown.length === 0`)
}

// unreachable serves only the dashboard's files.
func unreachable(t *testing.T, server string) string {
	t.Helper()
	n := newNetwork(t, server, fault{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/assets/") || strings.HasPrefix(r.URL.Path, "/builds/") {
			n.ServeHTTP(w, r)
			return
		}
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(s.Close)
	return s.URL
}
