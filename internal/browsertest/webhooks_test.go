package browsertest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/config"
)

// TestWebhooksPage adds an endpoint on the page. A delivery fails for good there, and
// is delivered again when the receiver works.
func TestWebhooksPage(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	server := startServer(t, func(c *config.Config) { c.Webhooks.Retries = []time.Duration{50 * time.Millisecond} })
	var well atomic.Bool
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !well.Load() && strings.Contains(string(body), `"id":2,`) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "<img src=x onerror=document.title='hacked'>")
		}
	}))
	t.Cleanup(receiver.Close)
	c, err := client.New(server)
	if err != nil {
		t.Fatal(err)
	}

	b := startBrowser(ctx, t)
	page := b.open(t, server+"/webhooks")
	text := func(selector, part string) string {
		return fmt.Sprintf(`document.querySelector(%q)?.textContent.includes(%q)`, selector, part)
	}
	press := func(selector, label string) {
		b.eval(t, page, fmt.Sprintf(`[...document.querySelectorAll(%q)].find((each) => each.textContent === %q).click()`, selector+" button", label))
	}
	b.await(t, page, `document.getElementById("empty")?.hidden === false && !document.getElementById("content").hidden`)
	press(".heading", "Add endpoint")
	b.eval(t, page, fmt.Sprintf(`const form = document.querySelector("#edit form"); form.elements.url.value = %q; form.elements.types.value = "task_*"; form.elements.timeout.value = "2.5"`, receiver.URL))
	press("#edit", "Add endpoint")
	b.await(t, page, `document.getElementById("secret").open && document.getElementById("secret-text").value.startsWith("whsec_")`)
	press("#secret", "I have kept it")
	b.await(t, page, text(".endpoint .state", "Enabled")+` && !document.body.innerHTML.includes("whsec_")`)
	press(".endpoint", "Test")
	b.await(t, page, text(".endpoint .said", "answered 200"))

	if _, err := c.Append(ctx, "b1", buildcast.NewEvent{Type: "task_started"}, buildcast.NewEvent{Type: "task_completed"}, buildcast.NewEvent{Type: "task_started"}); err != nil {
		t.Fatal(err)
	}
	b.await(t, page, text("#deliveries .state", "Dead")+" && "+text("#deliveries .event", "task_completed · event 2 of b1"))
	b.await(t, page, text("#deliveries pre", "<img src=x")+` && document.title !== "hacked"`)
	well.Store(true)
	press("#deliveries", "Redeliver")
	b.await(t, page, text("#deliveries .state", "Delivered"))

	press(".endpoint", "Delete")
	press("#ask", "Delete")
	b.await(t, page, `!document.getElementById("empty").hidden`)
}
