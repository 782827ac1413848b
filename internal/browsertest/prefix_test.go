package browsertest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
)

// TestTheDashboardBelowAPrefix visits the pages below a path prefix, behind a proxy
// that serves only that prefix (issue 8, 13).
func TestTheDashboardBelowAPrefix(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	server := startServer(t)
	c, err := client.New(server)
	if err != nil {
		t.Fatal(err)
	}
	report := func(kind string) {
		t.Helper()
		if _, err := c.Append(ctx, "b1", buildcast.NewEvent{Type: kind}); err != nil {
			t.Fatal(err)
		}
	}
	report(buildcast.PlanStarted)

	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	below := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Header.Del("Origin") },
		FlushInterval: -1,
	}
	front := http.NewServeMux()
	front.Handle("/buildcast/", http.StripPrefix("/buildcast", below))
	outside := make(chan string, 100)
	front.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		outside <- r.URL.Path
		http.NotFound(w, r)
	})
	s := httptest.NewServer(front)
	t.Cleanup(s.Close)

	b := startBrowser(ctx, t)
	page := b.open(t, s.URL+"/buildcast/")
	follow := func(link string) { b.eval(t, page, `document.querySelector('`+link+`').click()`) }
	b.await(t, page, `document.querySelector('.row')?.pathname === '/buildcast/builds/b1'`)
	follow(".row")
	b.await(t, page, `location.pathname === '/buildcast/builds/b1' && document.getElementById('link')?.dataset.transport === 'websocket'`)
	report(buildcast.BuildCompleted)
	b.await(t, page, `document.getElementById('state').textContent === 'Completed'`)
	follow(`nav a[href$="webhooks"]`)
	b.await(t, page, `location.pathname === '/buildcast/webhooks' && document.getElementById('content')?.hidden === false`)
	follow(".brand")
	b.await(t, page, `location.pathname === '/buildcast/' && document.querySelector('.row .state')?.textContent === 'Completed'`)
	close(outside)
	for path := range outside {
		if path != "/favicon.ico" {
			t.Errorf("%s was asked for, which is not below the prefix", path)
		}
	}
}
