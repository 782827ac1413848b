package outbound

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/buildcast/buildcast/internal/address"
	"github.com/buildcast/buildcast/internal/address/addresstest"
)

// receiver counts the requests and the connections that reach it.
type receiver struct {
	*httptest.Server
	requests, conns atomic.Int32
}

// receive serves on a loopback address; h nil answers 200.
func receive(t *testing.T, address string, h http.HandlerFunc) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		if h != nil {
			h(w, req)
		}
	}))
	r.Listener.Close()
	r.Listener = l
	r.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			r.conns.Add(1)
		}
	}
	r.Start()
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) port() string {
	_, port, _ := net.SplitHostPort(r.Listener.Addr().String())
	return port
}

func (r *receiver) mustBeUntouched(t *testing.T) {
	t.Helper()
	if n, c := r.requests.Load(), r.conns.Load(); n != 0 || c != 0 {
		t.Errorf("the receiver got %d requests on %d connections", n, c)
	}
}

// outside is a policy in which 127.0.0.2 stands for the public internet and
// 127.0.0.1 for what must not be reached.
var outside = Policy{AllowHTTP: true, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}

func noProxy(*http.Request) (*url.URL, error) { return nil, nil }

func newClient(t *testing.T, p Policy, o Options) *http.Client {
	t.Helper()
	if o.Proxy == nil {
		o.Proxy = noProxy
	}
	c := NewClient(p, o)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// post gives the status and what the error is described as.
func post(t *testing.T, c *http.Client, to string) (status int, failure string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(`{"id":1}`))
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, Describe(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, 8<<10)); err != nil {
		return res.StatusCode, Describe(err)
	}
	return res.StatusCode, ""
}

func mustRefuseAddress(t *testing.T, c *http.Client, to string) {
	t.Helper()
	if status, failure := post(t, c, to); status != 0 || !strings.HasPrefix(failure, string(RefusedAddress)+": ") {
		t.Errorf("%s: status %d, %q", to, status, failure)
	}
}

func TestAttackNameOfPrivateAddress(t *testing.T) {
	dns, victim := addresstest.NewDNS(t), receive(t, "127.0.0.1:0", nil)
	c := newClient(t, Policy{AllowHTTP: true}, Options{Resolver: dns.Resolver()})
	for name, addr := range map[string]string{
		"loopback": "127.0.0.1", "private": "10.0.0.1", "metadata": "169.254.169.254", "zero": "0.0.0.0",
		"loopback6": "::1", "unspecified6": "::", "mapped": "::ffff:127.0.0.1", "nat64": "64:ff9b::7f00:1",
		"6to4": "2002:7f00:1::", "unique-local": "fd00::1", "both": "10.0.0.1 fd00::1",
	} {
		t.Run(name, func(t *testing.T) {
			dns.Answer(name+".test", addr)
			mustRefuseAddress(t, c, "http://"+name+".test:"+victim.port()+"/")
		})
	}
	victim.mustBeUntouched(t)
}

func TestAttackNameInOtherSpellings(t *testing.T) {
	dns, victim := addresstest.NewDNS(t), receive(t, "127.0.0.1:0", nil)
	dns.Answer("attack.test", "127.0.0.1")
	c := newClient(t, Policy{AllowHTTP: true}, Options{Resolver: dns.Resolver()})
	for name, host := range map[string]string{"upper case": "ATTACK.TEST", "final dot": "attack.test.", "both": "Attack.Test."} {
		t.Run(name, func(t *testing.T) { mustRefuseAddress(t, c, "http://"+host+":"+victim.port()+"/") })
	}
	victim.mustBeUntouched(t)
}

func TestAttackNameOfPublicAndPrivateAddress(t *testing.T) {
	dns, victim := addresstest.NewDNS(t), receive(t, "127.0.0.1:0", nil)
	public := receive(t, "127.0.0.2:"+victim.port(), nil)
	c := newClient(t, outside, Options{Resolver: dns.Resolver()})
	for name, addrs := range map[string]string{"private first": "127.0.0.1 127.0.0.2", "public first": "127.0.0.2 127.0.0.1"} {
		t.Run(name, func(t *testing.T) {
			dns.Answer("mixed.test", addrs)
			c.CloseIdleConnections()
			if status, failure := post(t, c, "http://mixed.test:"+victim.port()+"/"); status != 200 {
				t.Errorf("status %d, %s", status, failure)
			}
		})
	}
	t.Run("public does not answer", func(t *testing.T) {
		public.Close()
		c.CloseIdleConnections()
		if status, failure := post(t, c, "http://mixed.test:"+victim.port()+"/"); failure == "" {
			t.Errorf("status %d", status)
		}
	})
	victim.mustBeUntouched(t)
}

// The name is public when it is checked and loopback when it is used.
func TestAttackRebindingBetweenCheckAndUse(t *testing.T) {
	dns, victim := addresstest.NewDNS(t), receive(t, "127.0.0.1:0", nil)
	dns.Answer("rebind.test", "93.184.216.34", "127.0.0.1")
	p := Policy{AllowHTTP: true}
	u, err := p.CheckURL("http://rebind.test:" + victim.port() + "/")
	if err != nil {
		t.Fatal(err)
	}
	checked, err := dns.Resolver().LookupNetIP(t.Context(), "ip", u.Hostname())
	if err != nil || len(checked) != 1 || p.Allowed(checked[0]) != nil {
		t.Fatalf("the check should pass: %v, %v", checked, err)
	}
	mustRefuseAddress(t, newClient(t, p, Options{Resolver: dns.Resolver()}), u.String())
	if n := dns.TimesAsked("rebind.test"); n != 2 {
		t.Errorf("the name was asked for %d times", n)
	}
	victim.mustBeUntouched(t)
}

// The name is public for one delivery and loopback for the next.
func TestAttackRebindingBetweenDeliveries(t *testing.T) {
	dns, victim := addresstest.NewDNS(t), receive(t, "127.0.0.1:0", nil)
	receive(t, "127.0.0.2:"+victim.port(), func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	dns.Answer("rebind.test", "127.0.0.2", "127.0.0.1")
	c := newClient(t, outside, Options{Resolver: dns.Resolver()})
	to := "http://rebind.test:" + victim.port() + "/"
	if status, failure := post(t, c, to); status != 200 {
		t.Errorf("the first: status %d, %s", status, failure)
	}
	mustRefuseAddress(t, c, to)
	victim.mustBeUntouched(t)
}

func TestAttackRedirect(t *testing.T) {
	victim := receive(t, "127.0.0.1:0", nil)
	for name, location := range map[string]string{
		"to loopback":        victim.URL + "/",
		"to metadata":        "http://169.254.169.254/latest/meta-data",
		"to a file":          "file:///etc/passwd",
		"to itself":          "/again",
		"that cannot parse":  "http://[::1/%zz",
		"scheme-relative":    "//127.0.0.1:" + victim.port() + "/",
		"with user and name": "http://good@127.0.0.1:" + victim.port() + "/",
	} {
		for _, code := range []int{301, 302, 303, 307, 308} {
			t.Run(name+" "+http.StatusText(code), func(t *testing.T) {
				public := receive(t, "127.0.0.2:0", func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", location)
					w.WriteHeader(code)
				})
				if status, failure := post(t, newClient(t, outside, Options{}), public.URL); status != code || failure != "" {
					t.Errorf("status %d, %q", status, failure)
				}
				if n := public.requests.Load(); n != 1 {
					t.Errorf("the public receiver got %d requests", n)
				}
			})
		}
	}
	victim.mustBeUntouched(t)
}

// The client judges URLs itself: the policy may have become stricter since one was stored.
func TestAttackURLThatWasNeverChecked(t *testing.T) {
	victim := receive(t, "127.0.0.1:0", nil)
	for name, to := range map[string]string{
		"loopback":          "http://127.0.0.1:PORT/",
		"mapped":            "http://[::ffff:127.0.0.1]:PORT/",
		"short":             "http://127.1:PORT/",
		"decimal":           "http://2130706433:PORT/",
		"octal":             "http://0177.0.0.1:PORT/",
		"hexadecimal":       "http://0x7f.0.0.1:PORT/",
		"zero":              "http://0.0.0.0:PORT/",
		"zero, short":       "http://0:PORT/",
		"localhost":         "http://localhost:PORT/",
		"upper case":        "http://LOCALHOST:PORT/",
		"final dot":         "http://localhost.:PORT/",
		"ideographic dots":  "http://127\u30020\u30020\u30021:PORT/",
		"full-width digits": "http://\uff11\uff12\uff17.0.0.1:PORT/",
		"user as a decoy":   "http://good@127.0.0.1:PORT/",
		"other scheme":      "ftp://127.0.0.1:PORT/",
	} {
		t.Run(name, func(t *testing.T) {
			status, failure := post(t, newClient(t, Policy{AllowHTTP: true}, Options{}), strings.Replace(to, "PORT", victim.port(), 1))
			if !strings.HasPrefix(failure, string(RefusedURL)+": ") {
				t.Errorf("status %d, %q", status, failure)
			}
		})
	}
	t.Run("http where only https is allowed", func(t *testing.T) {
		if _, failure := post(t, newClient(t, Policy{}, Options{}), "http://good.example/"); !strings.Contains(failure, "--webhook-allow-http") {
			t.Errorf("%q", failure)
		}
	})
	victim.mustBeUntouched(t)
}

// The dialer checks by itself, whatever gets past the check of the URL.
func TestAttackOnTheDialerAlone(t *testing.T) {
	victim := receive(t, "127.0.0.1:0", nil)
	g := newGuard(Policy{}, Options{Resolver: addresstest.NewDNS(t).Resolver(), Proxy: noProxy})
	for _, host := range []string{"127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "::", "localhost", "::1"} {
		t.Run(host, func(t *testing.T) {
			conn, err := g.direct.kept.DialContext(t.Context(), "tcp", net.JoinHostPort(host, victim.port()))
			if conn != nil {
				conn.Close()
			}
			if _, ok := errors.AsType[*address.RefusedError](err); !ok {
				t.Errorf("%v", err)
			}
		})
	}
	victim.mustBeUntouched(t)
}

func TestProxy(t *testing.T) {
	dns, proxy := addresstest.NewDNS(t), receive(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		w.Header().Set("Asked-For", r.URL.String())
	})
	dns.Answer("private.test", "10.0.0.1")
	dns.Answer("mixed.test", "93.184.216.34 10.0.0.1")
	dns.Answer("public.test", "93.184.216.34")
	through := &url.URL{Scheme: "http", Host: proxy.Listener.Addr().String(), User: url.UserPassword("me", "hunter2")}
	c := newClient(t, Policy{AllowHTTP: true}, Options{Resolver: dns.Resolver(), Proxy: http.ProxyURL(through)})
	for name, to := range map[string]string{
		"private address": "http://10.0.0.1/", "mapped address": "http://[::ffff:10.0.0.1]/", "metadata": "http://169.254.169.254/",
		"name of a private address": "http://private.test/", "over https": "https://private.test/",
		"name of a public and a private address": "http://mixed.test/", "upper case": "http://PRIVATE.TEST./",
	} {
		t.Run("attack "+name, func(t *testing.T) {
			if _, failure := post(t, c, to); !strings.HasPrefix(failure, "refused ") {
				t.Errorf("%q", failure)
			}
			proxy.mustBeUntouched(t)
		})
	}
	t.Run("unknown name", func(t *testing.T) {
		if _, failure := post(t, c, "https://unknown.test/"); failure != "dns failure: the name does not exist" {
			t.Errorf("%q", failure)
		}
		proxy.mustBeUntouched(t)
	})
	t.Run("public name", func(t *testing.T) { // though the proxy itself is on loopback
		if status, failure := post(t, c, "http://public.test/hook"); status != 200 || proxy.requests.Load() != 1 {
			t.Errorf("status %d, %q", status, failure)
		}
	})
	t.Run("CONNECT is refused", func(t *testing.T) {
		if _, failure := post(t, c, "https://public.test/"); failure != "proxy failure: the proxy answered CONNECT with status 407" {
			t.Errorf("%q", failure)
		}
	})
	t.Run("proxy is down", func(t *testing.T) {
		proxy.Close()
		c.CloseIdleConnections()
		if _, failure := post(t, c, "https://public.test/"); failure != "proxy failure: connection refused" {
			t.Errorf("%q", failure)
		}
	})
}

func TestProxyURLThatIsWrong(t *testing.T) {
	c := newClient(t, Policy{}, Options{Proxy: func(*http.Request) (*url.URL, error) {
		return nil, errors.New("invalid proxy address http://me:hunter2@")
	}})
	_, failure := post(t, c, "https://good.example/")
	if !strings.HasPrefix(failure, "proxy failure: ") || strings.Contains(failure, "hunter2") {
		t.Errorf("%q", failure)
	}
}

// speak answers each connection with the bytes, and then says nothing until the
// test is over.
func speak(t *testing.T, answer string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	over := make(chan struct{})
	t.Cleanup(func() { close(over); l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.WriteString(conn, answer)
					<-over
				}
			})
		}
	})
	return "http://" + l.Addr().String() + "/"
}

// Whatever a receiver answers, and stops in the middle of: the deadline ends it.
func TestAttackSilence(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":            "",
		"half a status line": "HTTP/1.1 2",
		"half a header":      "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n",
		"half a body":        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive.",
		"half a chunk":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nfive.",
		"no end":             "HTTP/1.1 200 OK\r\n\r\nfive.",
		"interim response":   "HTTP/1.1 103 Early Hints\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			if err := exchange(t, speak(t, answer)); KindOf(err) != Timeout {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("another protocol", func(t *testing.T) { // the connection would be the caller's, without a deadline
		if err := exchange(t, speak(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")); err != nil {
			t.Errorf("%v", err)
		}
	})
}

// The connection would be nobody's, and stay until the receiver ends it.
func TestAttackProtocolThatIsSwitched(t *testing.T) {
	ended := make(chan struct{})
	to := play(t, func(conn *net.TCPConn) {
		answer("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")(conn)
		_, _ = io.Copy(io.Discard, conn)
		close(ended)
	})
	if status, failure := post(t, newClient(t, outside, Options{}), to); status != 101 || failure != "" {
		t.Errorf("status %d, %q", status, failure)
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the connection is still open")
	}
}

// A small answer stays small: nothing is asked for that would be unpacked here.
func TestAttackCompressedAnswer(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write(make([]byte, 1<<20))
	w.Close()
	r := receive(t, "127.0.0.2:0", func(w http.ResponseWriter, req *http.Request) {
		if asked := req.Header.Get("Accept-Encoding"); asked != "" {
			t.Errorf("it asks for %s", asked)
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(zipped.Bytes())
	})
	res, err := newClient(t, outside, Options{}).Get(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || len(body) != zipped.Len() {
		t.Errorf("%d bytes, %v; %d were sent", len(body), err, zipped.Len())
	}
}

// exchange posts with a deadline that is soon, and reads the answer.
func exchange(t *testing.T, to string) error {
	t.Helper()
	return exchangeWith(t, newClient(t, outside, Options{}), to)
}

func exchangeWith(t *testing.T, c *http.Client, to string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(`{"id":1}`))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		res, err := c.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the deadline has not ended the exchange")
		return nil
	}
}

// What a receiver sends beyond all bounds is not held.
func TestAttackFloods(t *testing.T) {
	long := strings.Repeat("x", 2*MaxResponseHeader)
	for name, answer := range map[string]string{
		"header":            "HTTP/1.1 200 OK\r\nX: " + long + "\r\n\r\n",
		"many headers":      "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", MaxResponseHeader) + "\r\n",
		"status line":       "HTTP/1.1 200 " + long + "\r\n\r\n",
		"interim responses": strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: "+long[:1000]+"\r\n\r\n", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			err := exchange(t, speak(t, answer))
			if kind := KindOf(err); kind != LargeHeader && kind != Other && kind != NotHTTP {
				t.Errorf("%v", Describe(err))
			}
			if strings.Contains(Describe(err), "xx") {
				t.Errorf("the receiver's text is in %.200q", Describe(err))
			}
		})
	}
}

// Nothing in an endpoint's headers or URL ends a line of the request.
func TestAttackInjectionIntoTheRequest(t *testing.T) {
	var seen atomic.Pointer[http.Request]
	r := receive(t, "127.0.0.2:0", func(_ http.ResponseWriter, req *http.Request) { seen.Store(req) })
	c := newClient(t, outside, Options{})
	for name, h := range map[string][2]string{
		"CRLF in a value": {"X-A", "a\r\nX-Injected: 1"}, "LF in a value": {"X-A", "a\nX-Injected: 1"}, "CR in a value": {"X-A", "a\rX-Injected: 1"},
		"NUL in a value": {"X-A", "a\x00"}, "CRLF in a name": {"X-A: a\r\nX-Injected", "1"}, "colon in a name": {"X-Injected: 1, X-A", "1"},
		"space in a name": {"X-A ", "1"}, "empty name": {"", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header[h[0]] = []string{h[1]}
			res, err := c.Do(req)
			if err == nil {
				res.Body.Close()
				t.Error("it was sent")
			}
			if strings.Contains(Describe(err), "Injected") {
				t.Errorf("the header is in the error: %s", Describe(err))
			}
		})
	}
	if n := r.requests.Load(); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
	t.Run("CRLF in the path and the query", func(t *testing.T) {
		to := r.URL + "/a%0d%0aX-Injected:%201?b=%0d%0aX-Injected:%201"
		if status, failure := post(t, c, to); status != 200 {
			t.Fatalf("status %d, %s", status, failure)
		}
		if req := seen.Load(); req.Header.Get("X-Injected") != "" || "http://"+req.Host+req.RequestURI != to {
			t.Errorf("%s %v", req.RequestURI, req.Header)
		}
	})
}

// A receiver is who its certificate says it is.
func TestAttackCertificate(t *testing.T) {
	dns := addresstest.NewDNS(t)
	r := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.StartTLS()
	t.Cleanup(r.Close)
	_, port, _ := net.SplitHostPort(r.Listener.Addr().String())
	dns.Answer("other.test", "127.0.0.1")
	roots := x509.NewCertPool()
	roots.AddCert(r.Certificate())
	for name, attack := range map[string]struct {
		host    string
		trusted *x509.CertPool
		says    string
	}{
		"of nobody known": {"127.0.0.1", x509.NewCertPool(), "authority is not known"},
		"of another name": {"other.test", roots, "for another host name"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, Policy{AllowLoopback: true}, Options{Resolver: dns.Resolver(), RootCAs: attack.trusted})
			if _, failure := post(t, c, "https://"+attack.host+":"+port+"/"); !strings.HasPrefix(failure, string(TLS)+": ") || !strings.Contains(failure, attack.says) {
				t.Errorf("%q", failure)
			}
		})
	}
}
