package browsertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// attack is the script of a preview that attacks the dashboard in which it is framed.
// It tells what has become of each attempt.
const attack = `
const server = %[1]q, build = %[2]q;
const tried = {};
const attempt = async (name, act) => {
	try { tried[name] = String(await act()); } catch (error) { tried[name] = error.name; }
};
const answer = (target, type, failed) => new Promise((resolve) => {
	target.addEventListener(type, () => resolve('open'));
	target.addEventListener(failed, () => resolve('refused'));
});
const post = { method: 'POST', mode: 'no-cors', credentials: 'include' };
await attempt('read the page', () => parent.document.title);
await attempt('write to the page', () => { parent.name = 'taken'; });
await attempt('leave the frame', () => { top.location.href = server + '/webhooks'; });
await attempt('open a window', () => window.open(server + '/builds/' + build));
await attempt('read the API', async () => (await fetch(server + '/api/builds')).text());
await attempt('read the API with credentials', async () => (await fetch(server + '/api/builds', { credentials: 'include' })).text());
await attempt('read the API blindly', async () => (await fetch(server + '/api/builds', { mode: 'no-cors' })).type);
await attempt('follow the build', () => answer(new EventSource(server + '/events/' + build), 'open', 'error'));
await attempt('follow it by a WebSocket', () => answer(new WebSocket(server.replace('http', 'ws') + '/socket.io/?EIO=4&transport=websocket'), 'open', 'error'));
await attempt('start a build', async () => (await fetch(server + '/api/builds', { ...post, body: '{"id":"stolen"}' })).type);
await attempt('start a build as JSON', async () => (await fetch(server + '/api/builds', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"id":"stolen"}' })).status);
await attempt('repeat the build', async () => (await fetch(server + '/api/builds/' + build + '/retry', post)).type);
await attempt('send a form to the top', () => {
	const form = document.body.appendChild(document.createElement('form'));
	Object.assign(form, { method: 'post', action: server + '/api/builds/' + build + '/retry', target: '_top' }).submit();
});
await attempt('frame the dashboard', () => {
	const frame = document.createElement('iframe');
	return new Promise((resolve) => {
		frame.onload = () => resolve(frame.contentDocument === null ? 'not readable' : frame.contentDocument.title);
		frame.src = server + '/builds/' + build;
		document.body.append(frame);
	});
});
for (const message of ['cancel', { type: 'update', events: [] }, null]) parent.postMessage(message, '*');
setInterval(() => parent.postMessage({ tried, referrer: document.referrer }, '*'), 50);
`

// TestAPreviewReadsTheDashboard shows a preview whose page does what it can to read
// the dashboard and the API, to write there, and to leave its frame.
func TestAPreviewReadsTheDashboard(t *testing.T) {
	t.Parallel()
	p := newPages(t, "/")
	page := `<!doctype html><body><script type="module">` + fmt.Sprintf(attack, p.server, "hostile") + `</script>`
	body, err := json.Marshal(map[string]any{"id": "hostile", "plan": map[string]any{
		"name": "hostile", "deploy": "local", "tasks": []any{map[string]any{"name": "page", "files": map[string]string{"index.html": page}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(p.server+"/api/builds", "application/json", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status)
	}
	p.do(`location.href = '/builds/hostile'`)
	p.until(`location.pathname === '/builds/hostile' && $('state')`)
	p.do(`addEventListener('message', ({ data }) => { if (data?.tried) window.got = data; })`)
	p.until(`$('state')?.textContent === 'Completed' && window.got`)
	want := map[string]string{
		"read the page": "SecurityError", "write to the page": "SecurityError", "leave the frame": "SecurityError", "open a window": "null",
		"read the API": "TypeError", "read the API with credentials": "TypeError", "read the API blindly": "opaque",
		"follow the build": "refused", "follow it by a WebSocket": "refused",
		"start a build": "opaque", "start a build as JSON": "TypeError", "repeat the build": "opaque",
		"send a form to the top": "undefined", "frame the dashboard": "not readable",
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	p.do(fmt.Sprintf(`const wrong = Object.entries(%s).filter(([name, result]) => window.got.tried[name] !== result).map(([name]) => name + ': ' + window.got.tried[name]);
		if (wrong.length || window.got.referrer) throw new Error(wrong.join() + ' referrer: ' + window.got.referrer)`, text))
	p.until(`location.pathname === '/builds/hostile' && $('state').textContent === 'Completed' && window.name === '' && thrown.length === 0`)
	p.until(`all('.stage iframe')[0].getAttribute('sandbox') === 'allow-scripts allow-forms allow-same-origin'`)
	// Nothing was made or repeated.
	p.do(`location.href = '/'`)
	p.until(`all('.row').length === 1 && all('.row .mono')[0].textContent === 'hostile'`)
}

// TestAFrameOfAnotherSite: a build that another program reports names any address as
// its preview. The page links to it, and does not show it.
func TestAFrameOfAnotherSite(t *testing.T) {
	t.Parallel()
	p := newBuildPage(t, "b1")
	elsewhere := strings.Replace(p.server, "127.0.0.1", "localhost", 1) + "/docs"
	p.report(event("plan_started", `{}`), event("deploy_completed", fmt.Sprintf(`{"target":"local","previewUrl":%q}`, elsewhere)))
	p.look()
	p.until(`$('state')?.textContent === 'Completed' && $('preview').href === '` + elsewhere + `' && $('site').hidden && all('iframe').length === 0 && $('retry').hidden`)
	p.until(`$('site-url').textContent === '` + elsewhere + `' && $('site').hidden`) // it was tried and blocked
}

// TestTimelineOfWhatWasThere shows what came from the cache, how far a deploy is, and
// the tasks that a planner changes its mind about.
func TestTimelineOfWhatWasThere(t *testing.T) {
	t.Parallel()
	p := newBuildPage(t, "b1")
	p.report(event("plan_started", `{"sandbox":"bwrap"}`), event("plan_progress", `{"tasks":["one","two"],"outputTokens":40}`))
	p.look()
	const names = `all('#rows .label').map((each) => each.textContent).join()`
	p.until(names + ` === 'Plan,one,two' && all('#rows .note')[0].textContent === '2 tasks so far' && $('sandbox').textContent === 'bubblewrap'`)
	p.report(event("plan_progress", `{"tasks":["one","three"]}`))
	p.until(names + ` === 'Plan,one,three'`)
	p.report(event("plan_generated", `{"taskCount":2,"tasks":["three","four"]}`),
		event("task_completed", `{"taskName":"three","cached":true,"originBuildId":"b0","savedMs":41000}`),
		event("build_progress", `{"stage":"install","done":true,"cached":true,"savedMs":65000}`),
		event("deploy_started", `{"target":"cloudflare"}`), event("deploy_progress", `{"percent":70,"uploaded":120,"total":193}`))
	p.until(names + ` === 'Plan,three,four,Install,Deploy'`)
	p.until(`all('#rows .note').map((each) => each.textContent).join(' | ') === 'cached, saved 41 s | cached, saved 1 m 05 s | 62 %, 120 of 193 files'`)
	p.until(`all('#rows li .hidden').some((each) => each.textContent === 'done, cached, saved 41 s')`)
	p.report(event("deploy_completed", `{"target":"cloudflare","previewUrl":"https://b1.example.pages.dev"}`))
	p.until(`$('state').textContent === 'Completed' && all('#rows .note').length === 2 && !$('site').open && !$('site').hidden && all('iframe').length === 0`)
	p.until(`thrown.length === 0`)
}
