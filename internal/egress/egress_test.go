package egress

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast/internal/address"
	"github.com/buildcast/buildcast/internal/address/addresstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outside is a guard for which 127.0.0.2 stands for the public internet, and
// 127.0.0.1 for what must not be reached.
var outside = address.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, Flag: "--egress-allow-private"}

// site serves on a loopback address and counts its connections.
type site struct {
	*httptest.Server
	conns atomic.Int32
}

func serve(t *testing.T, addr string, h http.HandlerFunc) *site {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if h == nil {
		h = func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello from %s", r.URL.Path) }
	}
	s := &site{Server: httptest.NewUnstartedServer(h)}
	s.Listener.Close()
	s.Listener = l
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.conns.Add(1)
		}
	}
	t.Cleanup(s.Close)
	return s
}

func (s *site) port() string {
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return port
}

// rig is a door behind a Unix socket, as a command reaches it.
type rig struct {
	t      *testing.T
	door   *Door
	client *http.Client
	socket string

	mu      sync.Mutex
	refused []string
}

func open(t *testing.T, access Access, c Config) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "egress") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{t: t, socket: filepath.Join(dir, "s")}
	l, err := net.Listen("unix", g.socket)
	if err != nil {
		t.Fatal(err)
	}
	p := New(c)
	g.door = p.Door(access, func(text string) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.refused = append(g.refused, text)
	})
	server := &http.Server{Handler: g.door, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", g.socket)
		},
		Proxy: func(*http.Request) (*url.URL, error) { return url.Parse("http://127.0.0.1:1") },
	}
	g.client = &http.Client{Transport: transport, Timeout: time.Minute}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		g.door.Close()
		serving.Wait()
		p.Close()
		os.RemoveAll(dir)
	})
	return g
}

// get fetches an http:// URL through the proxy.
func (g *rig) get(u string) (status int, text string) {
	g.t.Helper()
	res, err := g.client.Get(u)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(b)
}

// connect asks for a tunnel, and fetches / through it.
func (g *rig) connect(hostport string) (status int, text string) {
	g.t.Helper()
	conn, err := net.Dial("unix", g.socket)
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	// The first bytes for the target come together with the request, as some clients send them.
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\nGET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", hostport, hostport)
	from := bufio.NewReader(conn)
	res, err := http.ReadResponse(from, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return 0, err.Error()
	}
	if res.StatusCode == http.StatusOK {
		if res, err = http.ReadResponse(from, nil); err != nil {
			return 0, err.Error()
		}
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(b)
}

func patterns(t *testing.T, texts ...string) (all []Pattern) {
	t.Helper()
	for _, text := range texts {
		p, err := ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func TestListedHostsAreReached(t *testing.T) {
	dns, public := addresstest.NewDNS(t), serve(t, "127.0.0.2:0", nil)
	public.Start()
	for _, name := range []string{"registry.test", "a.example.test", "example.test"} {
		dns.Answer(name, "127.0.0.2")
	}
	port := ":" + public.port()
	g := open(t, Listed, Config{Allow: patterns(t, "registry.test"+port, "*.example.test"+port), Guard: outside, Resolver: dns.Resolver()})
	for _, host := range []string{"registry.test", "REGISTRY.test.", "a.example.test"} {
		if status, text := g.get("http://" + host + port + "/plain"); status != 200 || text != "hello from /plain" {
			t.Errorf("%s: %d %q", host, status, text)
		}
		if status, text := g.connect(host + port); status != 200 || text != "hello from /tunnel" {
			t.Errorf("%s: %d %q", host, status, text)
		}
	}
	g.mu.Lock()
	if len(g.refused) > 0 {
		t.Errorf("refused: %q", g.refused)
	}
	g.mu.Unlock()
	for host, want := range map[string]string{
		"example.test" + port: "--egress-allow example.test" + port, "other.test:443": "start it with --egress-allow other.test",
		"xexample.test:80": "--egress-allow", "registry.test:443": "--egress-allow registry.test", "registry.test:22": "--egress-allow registry.test:22",
	} {
		for how, ask := range map[string]func() (int, string){
			"CONNECT": func() (int, string) { return g.connect(host) },
			"GET":     func() (int, string) { return g.get("http://" + host + "/") },
		} {
			if status, text := ask(); status != 403 || !strings.Contains(text, want) {
				t.Errorf("%s %s: %d %q, want %q", how, host, status, text, want)
			}
			g.mu.Lock()
			if len(g.refused) == 0 || !strings.Contains(g.refused[len(g.refused)-1], want) {
				t.Errorf("%s %s: the build is told %q", how, host, g.refused)
			}
			g.mu.Unlock()
		}
	}
}

func TestOffRefusesEverything(t *testing.T) {
	dns, public := addresstest.NewDNS(t), serve(t, "127.0.0.2:0", nil)
	public.Start()
	dns.Answer("listed.test", "127.0.0.2")
	g := open(t, Off, Config{Allow: patterns(t, "*:"+public.port(), "listed.test:"+public.port()), Guard: outside, Resolver: dns.Resolver()})
	for _, ask := range []func() (int, string){
		func() (int, string) { return g.connect("listed.test:" + public.port()) },
		func() (int, string) { return g.get("http://listed.test:" + public.port()) },
		func() (int, string) { return g.get("http://127.0.0.2:" + public.port()) },
	} {
		if status, text := ask(); status != 403 || !strings.Contains(text, "the network is off for this command") {
			t.Errorf("%d %q", status, text)
		}
	}
	if public.conns.Load() > 0 || dns.TimesAsked("listed.test") > 0 {
		t.Error("something went out")
	}
}

// In every kind of access that has a network at all: whatever a command calls the
// address, it is not reached.
func TestAttackPrivateAddresses(t *testing.T) {
	victim := serve(t, "127.0.0.1:0", nil)
	victim.Start()
	port := ":" + victim.port()
	for _, access := range []Access{Listed, Open} {
		dns := addresstest.NewDNS(t)
		g := open(t, access, Config{Allow: patterns(t, "*", "*"+port), Guard: address.Guard{Flag: "--egress-allow-private"}, Resolver: dns.Resolver()})
		hosts := []string{
			"127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.100.100.200",
			"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:169.254.169.254]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fd00:ec2::254]", "[fe80::1]",
		}
		for i, addr := range hosts {
			name := fmt.Sprintf("attack%d.test", i)
			dns.Answer(name, strings.Trim(addr, "[]"))
			hosts = append(hosts, name)
		}
		for _, host := range hosts {
			if status, text := g.connect(host + port); status != 403 || !strings.Contains(text, "is refused") {
				t.Errorf("%s: CONNECT %s: %d %q", access, host, status, text)
			}
			if status, text := g.get("http://" + host + port + "/"); status != 403 || !strings.Contains(text, "is refused") {
				t.Errorf("%s: GET %s: %d %q", access, host, status, text)
			}
		}
		// Spellings that other programs read as 127.0.0.1 are names here, and lead nowhere else.
		for _, host := range []string{"localhost", "LOCALHOST.", "0177.0.0.1", "2130706433", "0x7f.1", "127.1", "0"} {
			if status, text := g.connect(host + port); status != 403 && status != 502 {
				t.Errorf("%s: CONNECT %s: %d %q", access, host, status, text)
			}
			if status, text := g.get("http://" + host + port + "/"); status != 403 && status != 502 {
				t.Errorf("%s: GET %s: %d %q", access, host, status, text)
			}
		}
	}
	if n := victim.conns.Load(); n > 0 {
		t.Errorf("the victim got %d connections", n)
	}
}

// The name is public when it is checked and loopback when it is used.
func TestAttackRebinding(t *testing.T) {
	dns, victim := addresstest.NewDNS(t), serve(t, "127.0.0.1:0", nil)
	victim.Start()
	serve(t, "127.0.0.2:"+victim.port(), func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }).Start()
	host := "rebind.test:" + victim.port()
	g := open(t, Open, Config{Allow: patterns(t, "rebind.test:"+victim.port()), Guard: outside, Resolver: dns.Resolver()})
	for how, ask := range map[string]func() (int, string){
		"CONNECT": func() (int, string) { return g.connect(host) },
		"GET":     func() (int, string) { return g.get("http://" + host + "/") },
	} {
		dns.Answer("rebind.test", "127.0.0.2", "127.0.0.1")
		for dns.TimesAsked("rebind.test")%2 != 0 { // the turns are counted from the first question
			_, _ = dns.Resolver().LookupNetIP(t.Context(), "ip4", "rebind.test")
		}
		_, _ = ask()
		for range 3 {
			if status, text := ask(); status != 403 || !strings.Contains(text, "127.0.0.1 is refused") {
				t.Errorf("%s: %d %q", how, status, text)
			}
		}
	}
	if n := victim.conns.Load(); n > 0 {
		t.Errorf("the victim got %d connections", n)
	}
}

// The operator lets commands reach a registry in a private range, and nothing beside it.
func TestPrivateAddressesThatAreAllowed(t *testing.T) {
	registry := serve(t, "127.0.0.2:0", nil)
	registry.Start()
	victim := serve(t, "127.0.0.1:"+registry.port(), nil)
	victim.Start()
	g := open(t, Open, Config{Allow: patterns(t, "*:"+registry.port()), Guard: outside})
	if status, _ := g.connect("127.0.0.2:" + registry.port()); status != 200 {
		t.Errorf("the registry: %d", status)
	}
	if status, text := g.connect("127.0.0.1:" + registry.port()); status != 403 || !strings.Contains(text, "--egress-allow-private 127.0.0.0/8") {
		t.Errorf("the victim: %d %q", status, text)
	}
}

func TestWhatIsNotARequestToAProxy(t *testing.T) {
	g := open(t, Open, Config{Guard: outside})
	for _, host := range []string{"nohost", ":443", "a:0", "a:65536", "a:x", "[::1", "[fe80::1%25eth0]:443", "exämple.test:443", "a b:443", "a..b:443"} {
		if status, text := g.connect(host); status != 400 {
			t.Errorf("CONNECT %s: %d %q", host, status, text)
		}
	}
	for _, u := range []string{"ftp://example.test/", "https://example.test/", "/v8/artifacts"} {
		conn, err := net.Dial("unix", g.socket)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", u)
		b, _ := io.ReadAll(conn)
		conn.Close()
		if !strings.HasPrefix(string(b), "HTTP/1.1 400 ") {
			t.Errorf("%s: %.40q", u, b)
		}
	}
}

// What a command left open ends with the command.
func TestCloseEndsTunnels(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	g := open(t, Open, Config{Allow: patterns(t, "*:"+fmt.Sprint(silent.Addr().(*net.TCPAddr).Port)), Guard: outside})
	conn, err := net.Dial("unix", g.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", silent.Addr())
	if _, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect}); err != nil {
		t.Fatal(err)
	}
	server, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	g.door.Close()
	_ = server.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := server.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the connection is still open: %v", err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the command's connection is still open: %v", err)
	}
}
