package browsertest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/proxytest"
)

// visitor is a Chromium that resolves the site's hosts, and trusts its certificate.
func visitor(ctx context.Context, t *testing.T) *browser {
	t.Helper()
	return startBrowser(ctx, t, "--host-resolver-rules=MAP example.com 127.0.0.1,MAP *.example.com 127.0.0.1", "--ignore-certificate-errors")
}

// TestBehindProxies opens the pages behind nginx, Apache and HAProxy as
// docs/proxies.md configures them: the dashboard over a WebSocket, an EventSource,
// and a preview.
func TestBehindProxies(t *testing.T) {
	t.Parallel()
	for _, k := range proxytest.Kinds {
		for name, below := range map[string]bool{"": false, " below a path": true} {
			t.Run(k.Name+name, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				defer cancel()
				s := proxytest.NewSite(t, k, proxytest.Options{Documented: true, BelowPath: below})
				s.Report(t, "b1", `{"type":"plan_started"}`)
				b := visitor(ctx, t)
				page := b.open(t, s.URL+"/")
				b.await(t, page, `document.querySelector(".row")`)
				b.eval(t, page, `document.querySelector(".row").click()`)
				b.await(t, page, `document.getElementById("link")?.dataset.transport === "websocket"`)
				b.eval(t, page, fmt.Sprintf(`window.seen = []; new EventSource(%q).onmessage = ({ data }) => seen.push(JSON.parse(data).type)`, s.URL+"/events/b1"))
				b.await(t, page, `seen.join() === "plan_started"`)
				s.Report(t, "b1", `{"type":"build_completed"}`)
				b.await(t, page, `document.getElementById("state").textContent === "Completed" && seen.join() === "plan_started,build_completed"`)
				b.eval(t, page, `document.querySelector('nav a[href$="docs"]').click()`)
				b.await(t, page, `document.querySelector("#createBuild pre")?.textContent.includes("`+s.URL+`/api/builds")`)
				if !below {
					preview := b.open(t, s.Deploy(t))
					b.await(t, preview, `document.querySelector("h1")?.textContent === "Hello"`)
				}
			})
		}
	}
}

// TestBehindProxiesByDefault: the dashboard works without WebSockets and without
// Socket.IO, and the log names the settings to change.
func TestBehindProxiesByDefault(t *testing.T) {
	t.Parallel()
	for _, k := range proxytest.Kinds {
		for name, publicURL := range map[string]bool{"": false, " with a public URL": true} {
			t.Run(k.Name+name, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				defer cancel()
				s := proxytest.NewSite(t, k, proxytest.Options{Tweak: func(c *config.Config, public string) {
					if publicURL {
						c.PublicURL = public
					}
				}})
				s.Report(t, "b1", `{"type":"plan_started"}`)
				b := visitor(ctx, t)
				page := b.open(t, s.URL+"/builds/b1")
				b.await(t, page, `["websocket", "sse"].includes(document.getElementById("link")?.dataset.transport)`)
				s.Report(t, "b1", `{"type":"build_completed"}`)
				b.await(t, page, `document.getElementById("state").textContent === "Completed"`)
				b.eval(t, page, `fetch("../socket.io/?EIO=4&transport=polling", { method: "POST" })`) // with the page's Origin
				told := strings.Contains(s.Log.String(), "--public-url")
				if refused := !publicURL && k.Name != proxytest.HAProxy.Name; told != refused {
					t.Errorf("the log says to change something: %v, want %v: %s", told, refused, s.Log)
				}
			})
		}
	}
}
