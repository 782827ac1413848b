package socketapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/goleak"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/socketio"
	"github.com/buildcast/buildcast/internal/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test.
const patience = 20 * time.Second

// rig is a server over a real store.
type rig struct {
	t   *testing.T
	log *eventlog.Log
	hub *live.Hub
	url string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigOver(t, func(s live.Source) live.Source { return s })
}

// newRigOver is newRig with a hub over the store that source returns.
func newRigOver(t *testing.T, source func(live.Source) live.Source) *rig {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "b.db"))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, hub: live.NewHub(source(db))}
	r.log = eventlog.New(db, db, slog.New(slog.DiscardHandler))
	r.log.Subscribe(r.hub.Changed)
	sockets := New(r.hub, socketio.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	for _, run := range []func(context.Context) error{r.log.Run, r.hub.Run, sockets.Run} {
		parts.Go(func() { _ = run(ctx) })
	}
	server := httptest.NewServer(sockets)
	r.url = "ws" + strings.TrimPrefix(server.URL, "http") + "/socket.io/?EIO=4&transport=websocket"
	t.Cleanup(func() {
		cancel()
		parts.Wait()
		server.Close()
		db.Close()
	})
	return r
}

func (r *rig) append(build string, types ...string) {
	r.t.Helper()
	for _, typ := range types {
		if _, err := r.log.Append(r.t.Context(), build, 0, buildcast.NewEvent{Type: typ}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// peer is a Socket.IO client over WebSocket.
type peer struct {
	t *testing.T
	c io.ReadWriteCloser
	r io.Reader
}

// connect joins the main namespace. query is added to the URL.
func (r *rig) connect(query, auth string) *peer {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	c, br, _, err := ws.Dial(ctx, r.url+query)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if br == nil {
		br = bufio.NewReader(c)
	}
	p := &peer{t: r.t, c: c, r: br}
	r.t.Cleanup(func() { c.Close() })
	p.receive("0{")
	p.send("40" + auth)
	p.receive(`40{"sid":`)
	return p
}

func (p *peer) send(packet string) {
	p.t.Helper()
	if err := wsutil.WriteClientText(p.c, []byte(packet)); err != nil {
		p.t.Fatal(err)
	}
}

// receive returns the next packet, which must begin with prefix.
func (p *peer) receive(prefix string) string {
	p.t.Helper()
	b, err := wsutil.ReadServerText(struct {
		io.Reader
		io.Writer
	}{p.r, p.c})
	if err != nil {
		p.t.Fatalf("waiting for %s: %v", prefix, err)
	}
	if !strings.HasPrefix(string(b), prefix) {
		p.t.Fatalf("got %.300s, want %s…", b, prefix)
	}
	return string(b)
}

type updateArg struct {
	BuildID      string            `json:"buildId"`
	Events       []buildcast.Event `json:"events"`
	FirstEventID int64             `json:"firstEventId"`
	LastEventID  int64             `json:"lastEventId"`
	Status       buildcast.Status  `json:"status"`
}

func (p *peer) update() updateArg {
	p.t.Helper()
	text := strings.TrimPrefix(p.receive(`42["update",`), `42["update",`)
	d := json.NewDecoder(strings.NewReader(strings.TrimSuffix(text, "]")))
	d.DisallowUnknownFields()
	var u updateArg
	if err := d.Decode(&u); err != nil {
		p.t.Fatalf("%v in %s", err, text)
	}
	if n := len(u.Events); n == 0 || u.Events[n-1].ID != u.LastEventID || u.Status.LastEventID < u.LastEventID {
		p.t.Fatalf("an update that does not fit together: %s", text)
	}
	return u
}

// follow reads updates of one build until the id, and checks that each event
// arrives once, in order.
func (p *peer) follow(after, until int64) {
	p.t.Helper()
	for after < until {
		for _, e := range p.update().Events {
			if e.ID != after+1 {
				p.t.Fatalf("event %d after %d", e.ID, after)
			}
			after = e.ID
		}
	}
}

func TestMissedEventsFirstThenLive(t *testing.T) {
	r := newRig(t)
	r.append("b1", "a", "b", "c")
	p := r.connect("", "")
	p.send(`420["subscribe",{"buildId":"b1","lastEventId":1}]`)
	if ack := p.receive(`430[{"after":1,"firstEventId":1,"lastEventId":3,"status":{"buildId":"b1"`); !strings.Contains(ack, `"status":"queued"`) {
		t.Errorf("ack %s", ack)
	}
	p.follow(1, 3)
	r.append("b1", "d")
	p.follow(3, 4)
}

// Appends continue meanwhile: no event is lost or doubled at the change from replay
// to live.
func TestNoGapAtTheHandOver(t *testing.T) {
	r := newRig(t)
	const events, watchers = 400, 20
	var all sync.WaitGroup
	all.Go(func() {
		for range events {
			if _, err := r.log.Append(t.Context(), "b1", 0, buildcast.NewEvent{Type: "x"}); err != nil {
				t.Error(err)
			}
		}
	})
	for range watchers {
		p := r.connect("", "")
		p.send(`42["subscribe",{"buildId":"b1"}]`)
		all.Go(func() { p.follow(0, events) })
	}
	all.Wait()
}

func TestWhereASubscriptionBegins(t *testing.T) {
	r := newRig(t)
	r.append("b1", "a", "b", "c", "d")
	for _, tt := range []struct {
		name, query, auth, request string
		first                      int64
	}{
		{"at the start", "", "", `{"buildId":"b1"}`, 1},
		{"request", "&lastEventId=1", `{"lastEventId":1}`, `{"buildId":"b1","lastEventId":3}`, 4},
		{"request with 0", "&lastEventId=1", "", `{"buildId":"b1","lastEventId":0}`, 1},
		{"handshake query", "&lastEventId=2", "", `{"buildId":"b1"}`, 3},
		{"auth", "", `{"lastEventId":1}`, `{"buildId":"b1"}`, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := r.connect(tt.query, tt.auth)
			p.send(`42["subscribe",` + tt.request + `]`)
			if u := p.update(); u.Events[0].ID != tt.first {
				t.Errorf("begins at %d, want %d", u.Events[0].ID, tt.first)
			}
		})
	}
}

func TestSeveralBuildsOnOneSocket(t *testing.T) {
	r := newRig(t)
	p := r.connect("", "")
	p.send(`421["subscribe",{"buildId":"b1"}]`) // before the build's first event
	p.receive(`431[{"after":0,"firstEventId":1,"lastEventId":0,"status":null}]`)
	p.send(`422["subscribe",{"buildId":"b2"}]`)
	p.receive(`432[`)
	r.append("b1", "a")
	if u := p.update(); u.BuildID != "b1" {
		t.Errorf("update of %s", u.BuildID)
	}
	r.append("b2", "a")
	if u := p.update(); u.BuildID != "b2" {
		t.Errorf("update of %s", u.BuildID)
	}
	p.send(`423["unsubscribe",{"buildId":"b1"}]`)
	p.receive(`433[`)
	r.append("b1", "b")
	r.append("b2", "b")
	if u := p.update(); u.BuildID != "b2" {
		t.Errorf("update of %s after unsubscribing", u.BuildID)
	}
	// A second subscription to the build begins again, and replaces the first.
	p.send(`424["subscribe",{"buildId":"b2","lastEventId":0}]`)
	p.receive(`434[`)
	p.follow(0, 2)
}

func TestErrorsAreTold(t *testing.T) {
	r := newRig(t)
	r.append("b1", "a")
	p := r.connect("", "")
	for _, tt := range []struct{ request, want string }{
		{`{"buildId":"a/b"}`, `"code":"invalid_argument"`},
		{`{"buildId":"_operations"}`, `"code":"permission_denied"`},
		{`{"buildId":"b1","lastEventId":9}`, `"code":"cursor_ahead"`},
		{`{"buildId":"b1","lastEventId":-1}`, `"code":"invalid_argument"`},
		{`{"buildId":"b1","lastEventId":"1"}`, `"code":"invalid_argument"`},
		{`null`, `"code":"invalid_argument"`},
		{`7`, `"code":"invalid_argument"`},
		{`[]`, `"code":"invalid_argument"`},
	} {
		p.send(`425["subscribe",` + tt.request + `]`)
		if ack := p.receive(`435[{`); !strings.Contains(ack, `"error":{`) || !strings.Contains(ack, tt.want) {
			t.Errorf("%s: %s", tt.request, ack)
		}
		p.send(`42["subscribe",` + tt.request + `]`)
		if e := p.receive(`42["subscribe_error",`); !strings.Contains(e, tt.want) {
			t.Errorf("%s: %s", tt.request, e)
		}
	}
	p.send(`425["subscribe"]`)
	p.receive(`435[{`)
}

func TestASocketWatchesABoundedNumberOfBuilds(t *testing.T) {
	r := newRig(t)
	p := r.connect("", "")
	for i := range maxBuilds {
		p.send(fmt.Sprintf(`421["subscribe",{"buildId":"b%d"}]`, i))
		p.receive(`431[{"after":0,"firstEventId":1,"lastEventId":0,"status":null}]`)
	}
	p.send(`421["subscribe",{"buildId":"more"}]`)
	if ack := p.receive(`431[`); !strings.Contains(ack, `"code":"too_large"`) {
		t.Errorf("ack %s", ack)
	}
	p.send(`421["subscribe",{"buildId":"b1"}]`) // again: it needs no further place
	p.receive(`431[{"after":0,"firstEventId":1,"lastEventId":0,"status":null}]`)
}

// Sockets at the same cursor share a frame: it is encoded once.
func TestFramesAreShared(t *testing.T) {
	r := newRig(t)
	r.append("b1", "a")
	a, b := r.hub.Watch("b1", 0, nil), r.hub.Watch("b1", 0, nil)
	defer a.Close()
	defer b.Close()
	one, err := a.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	two, err := b.Take(t.Context())
	if err != nil || one.Frame(update) != two.Frame(update) {
		t.Errorf("the sockets do not share a frame: %v", err)
	}
}
