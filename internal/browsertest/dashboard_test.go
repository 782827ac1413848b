package browsertest

import (
	"context"
	"fmt"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
)

// TestReplayOfALongBuild replays more events than the dashboard keeps in memory: it
// reads the first ones again.
func TestReplayOfALongBuild(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	server := startServer(t)
	c, err := client.New(server)
	if err != nil {
		t.Fatal(err)
	}
	report := func(batch ...buildcast.NewEvent) {
		t.Helper()
		if _, err := c.Append(ctx, "long", batch...); err != nil {
			t.Fatal(err)
		}
	}
	report(buildcast.NewEvent{Type: buildcast.PlanStarted})
	for n := range 25 {
		batch := make([]buildcast.NewEvent, 1000)
		for i := range batch {
			batch[i].Type = "build_log"
			batch[i].Data = fmt.Appendf(nil, `{"taskName":"task %d","line":"line %d"}`, n%2, n*1000+i)
		}
		report(batch...)
	}
	report(buildcast.NewEvent{Type: buildcast.BuildCompleted})

	b := startBrowser(ctx, t)
	page := b.open(t, server+"/builds/long")
	const (
		replay   = `document.getElementById("replay")`
		percent  = `document.getElementById("percent")?.textContent`
		lastLine = `[...document.querySelectorAll("#log .chunk:not([hidden])")].at(-1)?.textContent.replace(/^task .(?=line)/, "")`
	)
	b.await(t, page, replay+` && !`+replay+`.hidden && `+lastLine+` === "line 24999"`)
	b.eval(t, page, `const seek = document.getElementById("seek"); seek.value = 0; seek.dispatchEvent(new Event("input"))`)
	b.await(t, page, percent+` === "10 %" && !/24999/.test(`+lastLine+`)`)
	b.eval(t, page, `document.getElementById("play").click()`)
	b.await(t, page, percent+` === "100 %" && `+lastLine+` === "line 24999"`)

	b.eval(t, page, `const only = document.getElementById("only"); only.value = "only task 1"; only.dispatchEvent(new Event("change"))`)
	b.await(t, page, lastLine+` === "line 23999"`)
}

// Issue 8, 24: the search finds builds that are far from the newest.
func TestTheSearchAsksTheServer(t *testing.T) {
	t.Parallel()
	p := newBuildPage(t, "the-oldest")
	p.report(event("step", `{"message":"Needle in a haystack"}`))
	for i := range 60 {
		p.build = fmt.Sprintf("newer-%d", i)
		p.report(event(buildcast.PlanStarted, `{}`))
	}
	p.tab = p.open(t, p.server+"/")
	p.until(`all('.row').length === 50 && !all('.row .mono').some((each) => each.textContent === 'the-oldest')`)
	search := func(text string) {
		p.eval(t, p.tab, fmt.Sprintf(`{ const { q } = document.getElementById('filter'); q.value = %q; q.dispatchEvent(new Event('input', { bubbles: true })); }`, text))
	}
	search("needle")
	p.until(`all('.row').length === 1 && all('.row .mono')[0].textContent === 'the-oldest' && location.search === '?q=needle'`)
	search("nothing like it")
	p.until(`all('.row').length === 0 && $('empty').textContent === 'No build matches the filter.'`)
	search("NEWER-5")
	p.until(`all('.row').length === 11`)
}
