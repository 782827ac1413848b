package browsertest

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/buildcast/buildcast"
)

// remove deletes the build.
func (p *buildPage) remove() {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.ctx, http.MethodDelete, p.server+"/api/builds/"+p.build, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		p.t.Fatalf("delete: %s", resp.Status)
	}
}

// TestTheClientBeginsElsewhere follows a log whose first 20 events were cut, on each
// transport: from a cursor before the cut, from the first event, from the end, and
// with a tail.
func TestTheClientBeginsElsewhere(t *testing.T) {
	t.Parallel()
	p := newBuildPage(t, "")
	p.tab = p.open(t, p.server+"/assets/favicon.svg")
	for _, transport := range []string{"websocket", "sse", "longpoll", "poll"} { // one by one: six connections are all
		p.build = "cut-" + transport
		p.steps(19)
		p.report(event(buildcast.BuildCompleted, `{}`))
		p.remove()
		p.steps(10) // 21 to 30, of a new build
		p.eval(t, p.tab, fmt.Sprintf(`(async () => {
			const { BuildProgress } = await import('/assets/js/index.js');
			globalThis.clients = [{ lastEventId: 7 }, {}, { lastEventId: 20 }, { from: 'latest' }, { tail: 3 }].map((options) => {
				const build = new BuildProgress('%s', { share: false, transports: ['%s'], ...options });
				const seen = { build, ids: [], gaps: [], errors: [], ended: false };
				build.addEventListener('update', ({ detail }) => seen.ids.push(...detail.events.map(({ id }) => id)));
				build.addEventListener('gap', ({ detail: { from, to } }) => seen.gaps.push(from + '-' + to));
				build.addEventListener('error', ({ detail }) => seen.errors.push(detail.code));
				build.addEventListener('end', () => (seen.ended = true));
				return seen;
			});
		})()`, p.build, transport))
		const followed = `clients.every(({ build }) => build.lastEventId === %d && !build.missing && build.status?.firstEventId === 21)`
		p.until(fmt.Sprintf(followed, 30))
		p.steps(5)
		p.until(fmt.Sprintf(followed, 35))
		p.report(event(buildcast.BuildFailed, `{"error":"no space"}`))
		p.until(`clients.every(({ ended }) => ended)`)
		p.eval(t, p.tab, `(() => {
			const upTo36 = (first) => Array.from({ length: 37 - first }, (_, i) => first + i).join();
			const want = [21, 21, 21, 31, 28];
			clients.forEach(({ build, ids, gaps, errors }, i) => {
				const how = i + ': ' + ids + ' gaps ' + gaps + ' errors ' + errors;
				if (ids.join() !== upTo36(want[i]) || gaps.join() !== (i ? '' : '8-20')) throw new Error(how);
				if (errors.length || build.status.error !== 'no space') throw new Error(how + ' ' + JSON.stringify(build.status));
			});
		})()`)
	}
}

// steps reports n events.
func (p *buildPage) steps(n int) {
	p.t.Helper()
	batch := make([]buildcast.NewEvent, n)
	for i := range batch {
		batch[i].Type = "step"
	}
	p.report(batch...)
}
