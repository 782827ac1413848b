package server

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/address"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/planfile"
)

// toRegistry lets commands reach this machine's npm registry, wherever it is.
func toRegistry(t *testing.T, cfg *config.Config) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "npm", "config", "get", "registry").Output()
	if err != nil {
		t.Fatalf("npm is not installed: install Node.js with npm (%v)", err)
	}
	registry := strings.TrimSpace(string(out))
	u, err := url.Parse(registry)
	if err != nil {
		t.Fatal(err)
	}
	cfg.NPMRegistry = registry
	if port := u.Port(); port != "" {
		cfg.Egress.Allow = append(cfg.Egress.Allow, u.Host)
	}
	if cfg.Egress.Proxy = os.Getenv("HTTPS_PROXY"); cfg.Egress.Proxy == "" {
		cfg.Egress.Proxy = os.Getenv("https_proxy")
	}
	addrs, _ := net.DefaultResolver.LookupNetIP(t.Context(), "ip", u.Hostname()) // unknown behind a proxy
	for _, addr := range addrs {
		if addr = addr.Unmap(); (address.Guard{}).Check(addr) != nil {
			cfg.Egress.AllowPrivate = append(cfg.Egress.AllowPrivate, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
}

// runPlan starts a build of the plan and returns its events at its end.
func runPlan(t *testing.T, s *Server, id, key string, plan *buildcast.Plan) (events []buildcast.Event, output string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"id": id, "project": plan.Name, "plan": plan})
	if err != nil {
		t.Fatal(err)
	}
	if status, text := send(t, http.MethodPost, s.URL()+"/api/builds", string(body), "Content-Type", "application/json", "Authorization", "Bearer "+key); status != http.StatusCreated {
		t.Fatalf("%d %s", status, text)
	}
	for deadline := time.Now().Add(4 * time.Minute); ; {
		last := 0
		if n := len(events); n > 0 {
			last = int(events[n-1].ID)
		}
		var page struct{ Events []buildcast.Event }
		_, text := send(t, http.MethodGet, s.URL()+"/api/builds/"+id+"/events?wait=5s&lastEventId="+strconv.Itoa(last), "")
		if err := json.Unmarshal([]byte(text), &page); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		for _, e := range page.Events {
			events = append(events, e)
			if e.Type == buildcast.BuildLog {
				output += string(e.Data) + "\n"
			}
			switch e.Type {
			case buildcast.DeployCompleted, buildcast.BuildCompleted:
				return events, output
			case buildcast.DeployFailed, buildcast.BuildFailed:
				t.Fatalf("%s %s\n%s", e.Type, e.Data, output)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the build does not end:\n%s", output)
		}
	}
}

// Two servers, and the real npm and turbo: the second server has the first's cache over
// HTTP only. Whatever becomes of that cache, builds complete.
func TestTurboOnTwoServers(t *testing.T) {
	const key = "0123456789abcdef"
	first := settings(t)
	first.Sandbox = "auto"
	first.Listen = "127.0.0.2:0" // not what programs leave out of their proxy
	first.APIKeys = []string{key}
	toRegistry(t, &first)
	s1, stop1 := start(t, first)
	second := settings(t)
	second.Sandbox = "auto"
	toRegistry(t, &second)
	second.Egress.Allow = append(second.Egress.Allow, strings.TrimPrefix(s1.URL(), "http://"))
	second.Egress.AllowPrivate = append(second.Egress.AllowPrivate, netip.MustParsePrefix("127.0.0.2/32"))
	s2, _ := start(t, second)

	example := func() *buildcast.Plan {
		plan, err := planfile.Read("../../examples/turbo-monorepo/plan.yaml")
		if err != nil {
			t.Fatal(err)
		}
		return plan
	}
	if _, out := runPlan(t, s1, "b1", key, example()); !strings.Contains(out, "0 cached, 2 total") {
		t.Fatalf("the first build: %s", out)
	}
	elsewhere := func(token string) *buildcast.Plan {
		plan := example()
		plan.Network = true
		plan.Build = fmt.Sprintf("TURBO_API=%s TURBO_TOKEN=%s %s", s1.URL(), token, plan.Build)
		return plan
	}
	if _, out := runPlan(t, s2, "b1", "", elsewhere(key)); !strings.Contains(out, "FULL TURBO") {
		t.Errorf("the second server: %s", out)
	}
	if _, out := runPlan(t, s2, "b2", "", elsewhere("wrong")); !strings.Contains(out, "0 cached, 2 total") {
		t.Errorf("with a wrong token: %s", out)
	}
	if err := stop1(); err != nil {
		t.Fatal(err)
	}
	dead := elsewhere(key)
	dead.Build += " --summarize=false" // another command than the first one's, whose result is kept
	if _, out := runPlan(t, s2, "b3", "", dead); !strings.Contains(out, "0 cached, 2 total") {
		t.Errorf("with a dead cache: %s", out)
	}
}

// attack is what a hostile package runs: it asks the proxy, and the network itself, for
// what it must not reach.
const attack = `
const http = require('http')
const targets = process.argv.slice(2)
const proxy = new URL(process.env.HTTP_PROXY)
const headers = proxy.username ? { 'Proxy-Authorization': 'Basic ' + Buffer.from(proxy.username + ':' + proxy.password).toString('base64') } : {}
function ask(how, target, options) {
  return new Promise((done) => {
    const request = http.request({ timeout: 3000, ...options })
    const tell = (what) => { console.log('attack', how, target, what); request.destroy(); done() }
    request.on('response', (response) => tell(response.statusCode))
    request.on('connect', (response) => tell(response.statusCode))
    request.on('error', () => tell('failed'))
    request.on('timeout', () => tell('failed'))
    request.end()
  })
}
async function all() {
  for (const target of targets) {
    await ask('get', target, { host: proxy.hostname, port: proxy.port, path: 'http://' + target + '/latest/meta-data', headers })
    await ask('connect', target, { host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: target, headers })
  }
  const at = new URL('http://' + targets[0])
  await ask('direct', targets[0], { host: at.hostname, port: at.port })
}
all()
`

// In every stage, by a package's postinstall script too: loopback, private ranges and the
// metadata service are not reached through the proxy, and in a sandbox not at all.
func TestAttackPrivateAddressesInEveryStage(t *testing.T) {
	var reached atomic.Int32
	victim := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(victim.Close)
	loopback := strings.TrimPrefix(victim.URL, "http://")
	_, port, _ := net.SplitHostPort(loopback)
	targets := strings.Join([]string{loopback, "localhost:" + port, "[::ffff:127.0.0.1]:" + port, "169.254.169.254:80", "10.0.0.1:80", "[fd00:ec2::254]:80"}, " ")
	text := func(s string) buildcast.File { return buildcast.File{Content: []byte(s)} }
	run := "node evil/attack.js '" + strings.ReplaceAll(targets, " ", "' '") + "'"
	pkg, err := json.Marshal(map[string]any{"name": "evil", "version": "1.0.0", "scripts": map[string]string{"postinstall": strings.Replace(run, "evil/", "", 1)}})
	if err != nil {
		t.Fatal(err)
	}
	plan := &buildcast.Plan{
		Name: "attack", Network: true,
		Tasks: []buildcast.Task{
			{Name: "files", Files: map[string]buildcast.File{
				"package.json":      text(`{"name":"victim","version":"1.0.0","dependencies":{"evil":"file:evil"}}`),
				"evil/package.json": text(string(pkg)), "evil/attack.js": text(attack),
			}},
			{Name: "off", Needs: []string{"files"}, Run: run},
			{Name: "listed", Needs: []string{"off"}, Run: run, Network: true},
		},
		Install: "npm install --no-audit --no-fund --offline --foreground-scripts --install-links=false",
		Build:   run, Deploy: buildcast.DeployNone,
	}
	cfg := settings(t)
	cfg.Sandbox = "auto"
	cfg.Egress.Allow = []string{"*", "*:" + port} // the guard alone is left
	s, _ := start(t, cfg)
	_, out := runPlan(t, s, "b1", "", plan)
	const stages, ways, hosts = 4, 2, 6
	if n := strings.Count(out, " 403"); n != stages*ways*hosts {
		t.Errorf("%d of %d attempts are refused: %s", n, stages*ways*hosts, out)
	}
	if s.runner.Sandbox() != "none" && (reached.Load() > 0 || strings.Count(out, "attack direct "+loopback+" failed") != stages) {
		t.Errorf("the victim was reached %d times: %s", reached.Load(), out)
	}
	if s.runner.Sandbox() == "none" && int(reached.Load()) != stages { // what only a sandbox prevents
		t.Errorf("the victim was reached %d times: %s", reached.Load(), out)
	}
	if !strings.Contains(out, "169.254.169.254:80 is refused: its address") || !strings.Contains(out, "the network is off for this command") {
		t.Errorf("the build is not told: %s", out)
	}
}
