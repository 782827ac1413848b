package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/js"
)

const (
	events       = 300
	atOnce       = 10 // events that are reported together
	beforeTheEnd = events - atOnce
	usualPace    = 200 * time.Millisecond // from ten to the next: the network's faults need time to happen

	// The limit of a whole visit. It is less than 45 s, after which a client closes a
	// silent WebSocket in any case: faults must be noticed earlier.
	deadline = 40 * time.Second
)

// page follows a build and reports what it saw when the build is over.
const page = `<!doctype html><meta charset="utf-8"><title>test</title><script type="module">
import { BuildProgress } from "/client/index.js";
const asked = new URLSearchParams(location.search);
const seen = { ids: [], transports: [], errors: [], slept: 0 };
const timing = JSON.parse(asked.get("timing") ?? "{}");
const build = new BuildProgress(asked.get("build"), { url: location.origin, timing });
globalThis.build = build;
build.addEventListener("update", (e) => seen.ids.push(...e.detail.events.map((x) => x.id)));
build.addEventListener("transport", ({ detail: { transport, shared } }) => {
  seen.transports.push(transport ?? "none");
  if (transport) seen.shared ??= shared;
});
build.addEventListener("error", (e) => seen.errors.push(String(e.detail.message)));
let before = Date.now();
const tick = () => {
  seen.slept = Math.max(seen.slept, Date.now() - before);
  before = Date.now();
};
setInterval(tick, 100);
build.addEventListener("end", () => {
  tick();
  fetch("/seen", { method: "POST", body: JSON.stringify(seen) });
});
await fetch("/loaded", { method: "POST" });
</script>`

// seen is what a page reports.
type seen struct {
	IDs        []int64  `json:"ids"`
	Transports []string `json:"transports"`
	Shared     bool     `json:"shared"` // its first transport was another tab's
	Errors     []string `json:"errors"`
	Slept      int      `json:"slept"` // ms: its longest time without a tick of its clock
}

// visit is one build, and the tabs of a Chromium that follow it through a
// network of their own.
type visit struct {
	ctx     context.Context
	build   string
	server  string // its URL, without the network between
	url     string // of the page
	network *network
	browser *browser
	tabs    []tab
	loaded  chan struct{}
	seen    chan seen
}

// open makes tabs follow a build that does not exist yet, and waits until all have
// loaded. The query's names and values are passed to the page.
func open(t *testing.T, server string, f fault, tabs int, query ...string) *visit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	v := &visit{
		ctx: ctx, build: fmt.Sprintf("b%d", time.Now().UnixNano()%1e12), server: server, network: newNetwork(t, server, f),
		loaded: make(chan struct{}, 100), seen: make(chan seen, 100),
	}
	files, err := fs.Sub(js.Source, "src")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", v.network)
	mux.Handle("/client/", http.StripPrefix("/client/", http.FileServerFS(files)))
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, page) })
	mux.HandleFunc("POST /loaded", func(http.ResponseWriter, *http.Request) { v.loaded <- struct{}{} })
	mux.HandleFunc("POST /seen", func(_ http.ResponseWriter, r *http.Request) {
		var s seen
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			t.Error(err)
		}
		v.seen <- s
	})
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)

	q := url.Values{"build": {v.build}}
	for pair := range slices.Chunk(query, 2) {
		q.Set(pair[0], pair[1])
	}
	v.url = front.URL + "/page?" + q.Encode()
	v.browser = startBrowser(ctx, t)
	v.openTabs(t, tabs)
	return v
}

// openTabs opens tabs at once, and waits until all of them follow the build.
func (v *visit) openTabs(t *testing.T, n int) {
	t.Helper()
	for range n {
		v.tabs = append(v.tabs, v.browser.open(t, v.url))
	}
	for range n {
		await(t, v, v.loaded, "the page has loaded")
	}
}

// closeTab closes the tab that was opened first.
func (v *visit) closeTab(t *testing.T) {
	t.Helper()
	v.browser.close(t, v.tabs[0])
	v.tabs = v.tabs[1:]
}

// report reports the build's events at this pace, each under a key, and waits
// until the server has them all. Then, before the first and after each ten, do
// is called with how many were reported.
func (v *visit) report(t *testing.T, pace time.Duration, do func(reported int)) {
	t.Helper()
	c, err := client.New(v.server)
	if err != nil {
		t.Fatal(err)
	}
	emitter, err := c.Emitter(v.build, client.EmitterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 1; n <= events; n++ {
		event := buildcast.NewEvent{Type: "step", Key: strconv.Itoa(n)}
		if n == events {
			event.Type = buildcast.BuildCompleted
		}
		if err := emitter.Emit(event); err != nil {
			t.Fatal(err)
		}
		if n%atOnce > 0 {
			continue
		}
		if do != nil {
			do(n)
		}
		<-tick.C
	}
	if err := emitter.Close(v.ctx); err != nil {
		t.Fatal(err)
	}
}

// check waits until every tab has seen the end. It checks that each tab has seen each
// event once and in order, and that it began with the first transport and ended with
// the last.
func (v *visit) check(t *testing.T, first, last string) []seen {
	t.Helper()
	want := make([]int64, events)
	for i := range want {
		want[i] = int64(i + 1)
	}
	all := make([]seen, len(v.tabs))
	for i := range all {
		got := await(t, v, v.seen, "each page has seen the end")
		all[i] = got
		if !slices.Equal(got.IDs, want) {
			t.Errorf("%d events, not each once and in order: %v", len(got.IDs), got.IDs)
		}
		reached := slices.DeleteFunc(slices.Clone(got.Transports), func(name string) bool { return name == "none" })
		if n := len(reached); n == 0 || reached[0] != first || reached[n-1] != last {
			t.Errorf("transports %v, want %s at first and %s at the end; errors %v", got.Transports, first, last, got.Errors)
		}
	}
	return all
}

// checkConnections must be called while the build runs: at its end the browser may
// make a tab the leader before that tab has seen the end.
func (v *visit) checkConnections(t *testing.T, want int64) {
	t.Helper()
	if n := v.network.connections(); n != want {
		t.Errorf("%d tabs had %d connections, want %d", len(v.tabs), n, want)
	}
}

func await[T any](t *testing.T, v *visit, c <-chan T, what string) (value T) {
	t.Helper()
	select {
	case value = <-c:
	case <-v.ctx.Done():
		t.Fatalf("waited in vain until %s", what)
	}
	return value
}
