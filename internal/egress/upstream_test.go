package egress

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/buildcast/buildcast/internal/address"
	"github.com/buildcast/buildcast/internal/address/addresstest"
)

// corporate is a proxy on loopback, as on machines whose only way out it is. It sends
// everything to one site, whatever its name.
func corporate(t *testing.T, to string, asked *atomic.Int32) *site {
	t.Helper()
	s := serve(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if user, password, ok := proxyAuth(r); !ok || user != "me" || password != "hunter2" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		if r.Method != http.MethodConnect {
			_, _ = io.WriteString(w, "hello from "+r.URL.String())
			return
		}
		server, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer server.Close()
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(server, client)
			server.Close()
		}()
		_, _ = io.Copy(client, server)
	})
	s.Start()
	return s
}

func proxyAuth(r *http.Request) (user, password string, ok bool) {
	as := &http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	return as.BasicAuth()
}

func TestUpstreamProxy(t *testing.T) {
	dns, public := addresstest.NewDNS(t), serve(t, "127.0.0.2:0", nil)
	public.Start()
	var asked atomic.Int32
	proxy := corporate(t, public.Listener.Addr().String(), &asked)
	u, err := ParseUpstream("http://me:hunter2@" + proxy.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dns.Answer("public.test", "93.184.216.34")
	dns.Answer("private.test", "10.0.0.1")
	dns.Answer("mixed.test", "93.184.216.34 169.254.169.254")
	g := open(t, Open, Config{Upstream: u, Resolver: dns.Resolver(), Guard: address.Guard{Flag: "--egress-allow-private"}})
	for _, host := range []string{"public.test", "unknown.test"} { // the proxy may know what is not known here
		if status, text := g.connect(host + ":443"); status != 200 || text != "hello from /tunnel" {
			t.Errorf("CONNECT %s: %d %q", host, status, text)
		}
		if status, text := g.get("http://" + host + "/x"); status != 200 || text != "hello from http://"+host+":80/x" {
			t.Errorf("GET %s: %d %q", host, status, text)
		}
	}
	before := asked.Load()
	for _, host := range []string{"private.test", "mixed.test", "127.0.0.1", "[::1]", "169.254.169.254"} {
		if status, text := g.connect(host + ":443"); status != 403 {
			t.Errorf("CONNECT %s: %d %q", host, status, text)
		}
		if status, text := g.get("http://" + host + "/"); status != 403 {
			t.Errorf("GET %s: %d %q", host, status, text)
		}
	}
	if asked.Load() != before {
		t.Error("the proxy was asked for what is refused")
	}
}

func TestUpstreamProxyThatDoesNotHelp(t *testing.T) {
	var asked atomic.Int32
	proxy := corporate(t, "", &asked)
	for text, want := range map[string]string{
		"http://me:wrong@" + proxy.Listener.Addr().String(): "answered with status 407",
		"http://127.0.0.2:1": "connection refused",
	} {
		u, err := ParseUpstream(text)
		if err != nil {
			t.Fatal(err)
		}
		g := open(t, Open, Config{Upstream: u, Guard: address.Guard{}, Resolver: addresstest.NewDNS(t).Resolver()})
		status, answer := g.connect("public.test:443")
		if status != 502 || !strings.Contains(answer, want) || !strings.Contains(answer, "--egress-proxy") || strings.Contains(answer, "wrong") {
			t.Errorf("%d %q", status, answer)
		}
	}
}

// The environment's proxy is not used silently.
func TestEnvironmentIsNotUsed(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	public := serve(t, "127.0.0.2:0", nil)
	public.Start()
	g := open(t, Open, Config{Allow: patterns(t, "*:"+public.port()), Guard: outside})
	if status, text := g.get(public.URL); status != 200 {
		t.Errorf("%d %q", status, text)
	}
}

func TestParseUpstream(t *testing.T) {
	for _, bad := range []string{"", "proxy.example.com:3128", "socks5://p:1", "http://", "http://p/path", "http://p?secret=1", "http://me:hunter2@"} {
		if u, err := ParseUpstream(bad); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, %v", bad, u, err)
		}
	}
	if u, err := ParseUpstream("https://proxy.example.com"); err != nil || u.Host != "proxy.example.com" {
		t.Errorf("%v, %v", u, err)
	}
}
