package chaostest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/webhooksig"
)

func TestKillWhileDeliveringOnSQLite(t *testing.T)   { deliveryTest(t, "") }
func TestKillWhileDeliveringOnPostgres(t *testing.T) { deliveryTest(t, pgtest.URL(t)) }

// deliveryTest kills the server repeatedly while it delivers the events of 12 builds.
// In the end every acknowledged event has arrived, in order. Each kill may double one
// event of each build: the one whose delivery the server has not stored.
func deliveryTest(t *testing.T, database string) {
	n := newNode(t, database)
	n.start()
	c := n.client()
	r := newReceiver(t)
	secret := "a secret for the test"
	if _, err := c.CreateEndpoint(t.Context(), buildcast.EndpointChange{URL: &r.URL, Secret: &secret}); err != nil {
		t.Fatal(err)
	}
	r.secret.Store(must(webhooksig.ParseSecret(secret)))
	var stopping atomic.Bool
	var appenders sync.WaitGroup
	var acked acknowledged
	for worker := range 12 {
		appenders.Go(func() {
			for i := 0; !stopping.Load(); i++ {
				appendUntilAcknowledged(t, c, &acked, fmt.Sprintf("b%d", worker), fmt.Sprintf("%d.%d", worker, i))
			}
		})
	}
	kills := rounds(t, 6)
	for range kills {
		randomPause(700 * time.Millisecond)
		n.kill()
		n.start()
	}
	stopping.Store(true)
	appenders.Wait()

	total := 0
	for build := range acked.ids {
		total += checkDelivered(t, c, r, build, kills)
	}
	if total < 100 {
		t.Errorf("only %d events: the test did not test", total)
	}
	t.Logf("%d events, %d sent twice, %d kills", total, r.doubled.Load(), kills)
	if n := r.unsigned.Load(); n > 0 {
		t.Errorf("%d requests are not signed as they should be", n)
	}
}

// checkDelivered waits for the build's last event, and returns how many events it has.
func checkDelivered(t *testing.T, c *client.Client, r *receiver, build string, kills int) int {
	t.Helper()
	events := readAll(t, c, build)
	last := events[len(events)-1].ID
	waitUntil(t, fmt.Sprintf("event %d of %s has arrived", last, build), func() bool { return r.last(build) >= last })
	r.mu.Lock()
	defer r.mu.Unlock()
	at, twice := int64(0), 0
	for i, id := range r.arrived[build] {
		switch id {
		case at + 1:
			at = id
		case at:
			twice++
		default:
			t.Fatalf("%s: event %d arrived after %d, as request %d", build, id, at, i)
		}
	}
	if twice > kills {
		t.Errorf("%s: %d events came twice in %d kills", build, twice, kills)
	}
	r.doubled.Add(int64(twice))
	return len(events)
}

// receiver is a backend that receives webhooks.
type receiver struct {
	*httptest.Server
	secret            atomic.Value // webhooksig.Secret
	unsigned, doubled atomic.Int64

	mu      sync.Mutex
	arrived map[string][]int64 // by build, in the order of arrival
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{arrived: map[string][]int64{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body := http.MaxBytesReader(w, req.Body, 1<<20)
		text := make([]byte, req.ContentLength)
		if _, err := io.ReadFull(body, text); err != nil {
			return // the server was killed while it sent this
		}
		var p buildcast.WebhookPayload
		if err := webhooksig.Verify(req.Header, text, r.secret.Load().(webhooksig.Secret)); err != nil || json.Unmarshal(text, &p) != nil {
			r.unsigned.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r.mu.Lock()
		r.arrived[p.BuildID] = append(r.arrived[p.BuildID], p.ID)
		r.mu.Unlock()
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) last(build string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := r.arrived[build]
	if len(ids) == 0 {
		return 0
	}
	return ids[len(ids)-1]
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
