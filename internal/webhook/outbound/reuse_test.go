package outbound

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/buildcast/buildcast/internal/address/addresstest"
)

// keeper answers 200, and at first holds the requests back until n are under way,
// so that n connections are kept. Once it breaks, it reads each request that
// comes on one of these and closes the connection; on new ones too where crashing.
type keeper struct {
	*receiver
	broken, crashing atomic.Bool
	crashed          atomic.Int32
	key              atomic.Value // the last request's Idempotency-Key
}

func keep(t *testing.T, address string, n int) *keeper {
	t.Helper()
	var arrived sync.WaitGroup
	arrived.Add(n)
	var held atomic.Int32
	var kept sync.Map // a connection's address -> true
	k := &keeper{}
	k.receiver = receive(t, address, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		k.key.Store(r.Header.Get("Idempotency-Key"))
		if k.broken.Load() {
			if _, old := kept.Load(r.RemoteAddr); old || k.crashing.Load() {
				k.crashed.Add(1)
				panic(http.ErrAbortHandler)
			}
			return
		}
		kept.Store(r.RemoteAddr, true)
		if held.Add(1) <= int32(n) {
			arrived.Done()
			arrived.Wait()
		}
	})
	return k
}

// fill sends n requests at once.
func fill(t *testing.T, c *http.Client, to string, n int) {
	t.Helper()
	var sending sync.WaitGroup
	for range n {
		sending.Go(func() {
			if status, failure := post(t, c, to); status != 200 {
				t.Errorf("status %d, %s", status, failure)
			}
		})
	}
	sending.Wait()
}

// As many connections are kept as one endpoint has requests under way.
func TestConnectionsAreKept(t *testing.T) {
	k := keep(t, "127.0.0.2:0", maxIdlePerHost)
	c := newClient(t, outside, Options{})
	for range 5 {
		fill(t, c, k.URL, maxIdlePerHost)
	}
	if n := k.conns.Load(); n != maxIdlePerHost {
		t.Errorf("%d connections for %d requests at a time", n, maxIdlePerHost)
	}
}

// An event that crashes its receiver does so once more, and not once for each
// connection that is kept.
func TestAttackCrashOnEachRequest(t *testing.T) {
	for _, header := range []string{"", "Idempotency-Key", "X-Idempotency-Key"} {
		t.Run("header "+header, func(t *testing.T) {
			k := keep(t, "127.0.0.2:0", maxIdlePerHost)
			c := newClient(t, outside, Options{})
			fill(t, c, k.URL, maxIdlePerHost)
			k.crashing.Store(true)
			k.broken.Store(true)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, k.URL, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if header != "" {
				req.Header.Set(header, "mine")
			}
			res, err := c.Do(req)
			if err == nil {
				res.Body.Close()
			}
			if KindOf(err) != CutOff || k.crashed.Load() != 2 {
				t.Errorf("%v after %d requests", err, k.crashed.Load())
			}
			if got, _ := k.key.Load().(string); header == "Idempotency-Key" && got != "mine" {
				t.Errorf("the endpoint's own header arrives as %q", got)
			}
		})
	}
}

// A kept connection that the receiver has closed costs nothing, though the others
// are closed as well: so they are after a receiver's restart.
func TestKeptConnectionThatWasClosed(t *testing.T) {
	k := keep(t, "127.0.0.2:0", maxIdlePerHost)
	c := newClient(t, outside, Options{})
	fill(t, c, k.URL, maxIdlePerHost)
	k.broken.Store(true)
	if status, failure := post(t, c, k.URL); status != 200 || k.crashed.Load() != 1 {
		t.Errorf("status %d, %q after %d closed", status, failure, k.crashed.Load())
	}
}

// A new connection that was closed is a failed attempt: the receiver is not asked twice.
func TestNewConnectionThatWasClosed(t *testing.T) {
	k := keep(t, "127.0.0.2:0", 0)
	k.crashing.Store(true)
	k.broken.Store(true)
	if _, failure := post(t, newClient(t, outside, Options{}), k.URL); failure != string(CutOff) || k.crashed.Load() != 1 {
		t.Errorf("%q after %d requests", failure, k.crashed.Load())
	}
}

// The receiver closes a kept connection so that the name is asked for again, and
// is loopback by then.
func TestAttackRebindingWhereAKeptConnectionIsClosed(t *testing.T) {
	dns, victim := addresstest.NewDNS(t), receive(t, "127.0.0.1:0", nil)
	k := keep(t, net.JoinHostPort("127.0.0.2", victim.port()), 1)
	dns.Answer("rebind.test", "127.0.0.2", "127.0.0.1")
	c := newClient(t, outside, Options{Resolver: dns.Resolver()})
	to := "http://rebind.test:" + victim.port() + "/"
	fill(t, c, to, 1)
	k.broken.Store(true)
	mustRefuseAddress(t, c, to)
	if n := k.crashed.Load(); n != 1 {
		t.Errorf("the receiver got %d requests on the kept connection", n)
	}
	victim.mustBeUntouched(t)
}

// A round trip with a body such as an event's, beside that of a plain client.
func BenchmarkRoundTrip(b *testing.B) {
	server := newBenchServer(b)
	plain := &http.Client{Transport: &http.Transport{MaxIdleConns: maxIdle, MaxIdleConnsPerHost: maxIdlePerHost, DisableCompression: true}}
	guarded := NewClient(Policy{AllowLoopback: true}, Options{Proxy: noProxy})
	body := `{"buildId":"b1","id":1,"type":"task_completed","data":{"task":"` + strings.Repeat("x", 200) + `"}}`
	for _, side := range []struct {
		name   string
		client *http.Client
	}{{"plain", plain}, {"guarded", guarded}} {
		b.Run(side.name, func(b *testing.B) {
			b.ReportAllocs()
			b.Cleanup(side.client.CloseIdleConnections)
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, server, strings.NewReader(body))
					if err != nil {
						b.Error(err)
						return
					}
					res, err := side.client.Do(req)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			})
		})
	}
}

// newBenchServer answers as cheaply as a server can, so that the client is what is measured.
func newBenchServer(b *testing.B) (url string) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	b.Cleanup(func() { server.Close(); serving.Wait() })
	return "http://" + l.Addr().String() + "/"
}
