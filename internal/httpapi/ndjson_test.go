package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventjson"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/store"
)

func (h *harness) stream(id, body string) httpAnswer {
	h.t.Helper()
	return h.post("/api/builds/"+id+"/events", body, "Content-Type", ndjsonBody)
}

func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"type":"build_log","data":{"line":%d}}`+"\n", i+1)
	}
	return b.String()
}

func TestStream(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "plan_started")
	for _, tt := range []struct {
		body  string
		count int64
	}{
		{lines(2500), 2500},
		{"{\"type\":\"a\"}\r\n\n  \n\t{\"type\":\"b\"}", 2}, // blank lines, CRLF, no line break at the end
	} {
		before := int64(len(h.store.events("b1")))
		a := decode[streamed](h.stream("b1", tt.body).want(http.StatusCreated))
		want := [][2]int64{{before + 1, before + tt.count}}
		if a.BuildID != "b1" || a.Count != tt.count || a.LastEventID != before+tt.count || !slices.Equal(a.IDRanges, want) {
			t.Errorf("answer %+v, want %v", a, want)
		}
	}
	for i, e := range h.store.events("b1")[1:2501] {
		if want := fmt.Sprintf(`{"line":%d}`, i+1); string(e.Data) != want {
			t.Fatalf("event %d holds %s, want %s", e.ID, e.Data, want)
		}
	}
}

func TestStreamIsRepeatable(t *testing.T) {
	h := newHarness(t)
	body := "{\"type\":\"a\",\"key\":\"1\"}\n{\"type\":\"b\",\"key\":\"2\"}\n"
	h.stream("b1", body).want(http.StatusCreated)
	a := decode[streamed](h.stream("b1", body+"{\"type\":\"c\"}").want(http.StatusCreated))
	if a.Count != 3 || a.LastEventID != 3 || len(h.store.events("b1")) != 3 {
		t.Errorf("answer %+v", a)
	}
}

func TestStreamOfNothing(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a")
	for id, last := range map[string]int64{"b1": 1, "b2": 0} {
		a := decode[streamed](h.stream(id, "\n \n").want(http.StatusOK))
		if a.Count != 0 || a.LastEventID != last || a.IDRanges == nil {
			t.Errorf("answer %+v", a)
		}
	}
	if h.store.events("b2") != nil {
		t.Error("a build was made")
	}
}

// TestStreamRanges: other writers' events lie between the stream's own.
func TestStreamRanges(t *testing.T) {
	s := streamed{}
	for _, id := range []int64{1, 2, 5, 6, 7, 3, 9} {
		s.add(id)
	}
	if want := [][2]int64{{1, 2}, {5, 7}, {3, 3}, {9, 9}}; !slices.Equal(s.IDRanges, want) || s.Count != 7 || s.LastEventID != 9 || s.Truncated {
		t.Errorf("got %+v, want ranges %v", s, want)
	}
	for i := range int64(maxRanges) {
		s.add(20 + 2*i)
	}
	if len(s.IDRanges) != maxRanges || !s.Truncated || s.Count != 7+maxRanges {
		t.Errorf("%d ranges, truncated %v, count %d", len(s.IDRanges), s.Truncated, s.Count)
	}
}

// TestStreamBadLine: what came before the bad line is stored, and the answer
// says how far the stream came.
func TestStreamBadLine(t *testing.T) {
	long := strings.Repeat("d", eventjson.MaxLine)
	for _, tt := range []struct {
		name, body string
		code       buildcast.Code
		field      string
		line       int
		count      int64
	}{
		{"the first", "nonsense\n" + lines(5), buildcast.InvalidArgument, "", 1, 0},
		{"after blank lines", "\n\n{\"type\":\"a\"}\n\n{\"typ\":1}\n", buildcast.InvalidArgument, "typ", 5, 1},
		{"after many", lines(3000) + "{\"type\":\"\"}\n" + lines(10), buildcast.InvalidArgument, "type", 3001, 3000},
		{"at the end", lines(3) + "{\"type\":", buildcast.InvalidArgument, "", 4, 3},
		{"too long", lines(3) + `{"type":"a","data":"` + long + "\"}\n" + lines(2), buildcast.TooLarge, "", 4, 3},
		{"too long, without an end", lines(3) + strings.Repeat(long, 20), buildcast.TooLarge, "", 4, 3},
		{"too much data", lines(2) + `{"type":"a","data":"` + strings.Repeat("d", buildcast.MaxEventData) + "\"}\n", buildcast.TooLarge, "data", 3, 2},
		{"an array", lines(1) + `[{"type":"a"}]`, buildcast.InvalidArgument, "", 2, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			p := h.stream("b1", tt.body).problem(tt.code, tt.field)
			if p.Line != tt.line || p.Count == nil || *p.Count != tt.count {
				t.Errorf("problem %+v, want line %d and count %d", p, tt.line, tt.count)
			}
			if tt.count > 0 && (p.LastEventID == nil || *p.LastEventID != tt.count) {
				t.Errorf("problem %+v, want lastEventId %d", p, tt.count)
			}
			if got := int64(len(h.store.events("b1"))); got != tt.count {
				t.Errorf("%d events are stored, %d were told", got, tt.count)
			}
		})
	}
	h := newHarness(t)
	fits := `{"type":"a","data":"` + strings.Repeat("d", buildcast.MaxEventData-2) + `"}`
	fits += strings.Repeat(" ", eventjson.MaxLine-len(fits))
	h.stream("b1", fits+"\n"+fits).want(http.StatusCreated)
}

// pipeServer serves the handler over connections in memory, so that time in it
// is the bubble's.
func pipeServer(t *testing.T, handler http.Handler) (dial func() net.Conn) {
	conns := make(chan net.Conn)
	l := pipeListener{conns, make(chan struct{})}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return func() net.Conn {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = ours.Close() })
		conns <- theirs
		return ours
	}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l pipeListener) Close() error   { close(l.closed); return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// liveStream is a stream whose lines are written one by one.
type liveStream struct {
	t    *testing.T
	conn net.Conn
	got  chan httpAnswer
}

func openStream(t *testing.T, dial func() net.Conn, path string) *liveStream {
	s := &liveStream{t, dial(), make(chan httpAnswer, 1)}
	go func() {
		defer close(s.got)
		a, err := http.ReadResponse(bufio.NewReader(s.conn), nil)
		if err != nil {
			return
		}
		defer a.Body.Close()
		body, _ := io.ReadAll(a.Body)
		s.got <- httpAnswer{t, a.StatusCode, a.Header, body}
	}()
	s.write("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
	return s
}

func (s *liveStream) write(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.conn, text); err != nil {
		s.t.Fatal(err)
	}
}

func (s *liveStream) send(text string) { s.write(fmt.Sprintf("%x\r\n%s\r\n", len(text), text)) }
func (s *liveStream) end()             { s.write("0\r\n\r\n") }

// TestStreamIsLive: a line is stored as soon as it is there, whatever comes later.
func TestStreamIsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		s := openStream(t, pipeServer(t, h.handler), eventsPath)
		for i := 1; i <= 3; i++ {
			s.send(`{"type":"a"}` + "\n" + `{"typ`) // and half of the next
			synctest.Wait()
			if got := len(h.store.events("b1")); got != 2*i-1 {
				t.Fatalf("%d events are stored after line %d", got, 2*i-1)
			}
			s.send(`e":"b"}` + "\n")
			synctest.Wait()
			if got := len(h.store.events("b1")); got != 2*i {
				t.Fatalf("%d events are stored after line %d", got, 2*i)
			}
			<-time.After(streamIdle - time.Second)
		}
		s.end()
		if a := decode[streamed]((<-s.got).want(http.StatusCreated)); a.Count != 6 || len(a.IDRanges) != 1 {
			t.Errorf("answer %+v", a)
		}
	})
}

// TestStreamGathersWhileStoring: lines that come during a transaction go into
// the next one together, and no more than a batch of them is held.
func TestStreamGathersWhileStoring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		var sizes []int
		release := make(chan struct{})
		h.store.appending = func(appends []store.Append) {
			sizes = append(sizes, len(appends[0].Events))
			<-release
		}
		s := openStream(t, pipeServer(t, h.handler), eventsPath)
		s.send(lines(1))
		synctest.Wait()
		s.send(lines(400))
		synctest.Wait()
		s.send(lines(400))
		synctest.Wait()
		go func() { // it cannot all be taken: the sender is held back
			s.send(lines(3000))
			s.end()
		}()
		synctest.Wait()
		close(release)
		if a := decode[streamed]((<-s.got).want(http.StatusCreated)); a.Count != 3801 {
			t.Errorf("answer %+v", a)
		}
		if len(sizes) < 4 || sizes[0] != 1 || sizes[1] != batchEvents || slices.Max(sizes) > batchEvents {
			t.Errorf("transactions of %v events", sizes)
		}
	})
}

func TestStreamBatchIsBoundedInBytes(t *testing.T) {
	h := newHarness(t)
	var sizes []int
	h.store.appending = func(appends []store.Append) {
		size := 0
		for _, e := range appends[0].Events {
			size += len(e.Data)
		}
		sizes = append(sizes, size)
	}
	h.stream("b1", strings.Repeat(`{"type":"x","data":"`+strings.Repeat("d", 60_000)+"\"}\n", 100)).want(http.StatusCreated)
	if slices.Max(sizes) > batchBytes+eventjson.MaxLine {
		t.Errorf("transactions of %v bytes", sizes)
	}
}

// TestStreamStoreFails: the answer names the first line that is not stored, and
// comes although the client goes on sending.
func TestStreamStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		s := openStream(t, pipeServer(t, h.handler), eventsPath)
		s.send("\n" + lines(2))
		synctest.Wait()
		h.store.fail(buildcast.Errorf(buildcast.StoreUnavailable, "away").After(time.Second), nil)
		start := time.Now()
		s.send("\n" + lines(1))
		a := (<-s.got).want(http.StatusServiceUnavailable)
		p := a.problem(buildcast.StoreUnavailable, "")
		if p.Line != 5 || *p.Count != 2 || *p.LastEventID != 2 || a.Header.Get("Retry-After") != "1" {
			t.Errorf("problem %+v", p)
		}
		if waited := time.Since(start); waited > time.Second {
			t.Errorf("the answer took %v", waited)
		}
	})
}

func TestStreamBadLineIsAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		s := openStream(t, pipeServer(t, h.handler), eventsPath)
		start := time.Now()
		s.send(lines(1) + "nonsense\n") // and the stream stays open
		p := (<-s.got).problem(buildcast.InvalidArgument, "")
		if p.Line != 2 || *p.Count != 1 || time.Since(start) > time.Second {
			t.Errorf("problem %+v after %v", p, time.Since(start))
		}
	})
}

func TestStreamThatFallsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		s := openStream(t, pipeServer(t, h.handler), eventsPath)
		start := time.Now()
		s.send(lines(1))
		<-time.After(streamIdle - time.Second)
		s.send("\n") // a blank line keeps it open
		p := (<-s.got).want(http.StatusRequestTimeout).problem(problem.TimedOut, "")
		if waited := time.Since(start).Truncate(time.Second); p.Line != 3 || *p.Count != 1 || waited != 2*streamIdle-time.Second {
			t.Errorf("problem %+v after %v", p, waited)
		}
	})
}

func TestStreamWhileTheServerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping, stop := context.WithCancel(t.Context())
		h := newHarness(t, func(c *Config) { c.Stopping = stopping })
		s := openStream(t, pipeServer(t, h.handler), eventsPath)
		s.send(lines(3))
		synctest.Wait()
		stop()
		p := (<-s.got).want(http.StatusServiceUnavailable).problem(buildcast.StoreUnavailable, "")
		if p.Line != 4 || *p.Count != 3 || p.RetryAfter != 1 {
			t.Errorf("problem %+v", p)
		}
	})
}

// TestStreamClientLeaves: whole lines that came are stored, the half one is not.
func TestStreamClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		s := openStream(t, pipeServer(t, h.handler), eventsPath)
		s.send(lines(3) + `{"type":"a"}`)
		_ = s.conn.Close()
		synctest.Wait()
		if got := len(h.store.events("b1")); got != 3 {
			t.Errorf("%d events are stored", got)
		}
	})
}

// TestBodyThatFallsSilent: a JSON body has one deadline for all of it.
func TestBodyThatFallsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		conn := pipeServer(t, h.handler)()
		start := time.Now()
		if _, err := io.WriteString(conn, "POST "+eventsPath+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		a, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		if waited := time.Since(start).Truncate(time.Second); a.StatusCode != http.StatusRequestTimeout || waited != bodyTimeout {
			t.Errorf("status %d after %v", a.StatusCode, waited)
		}
	})
}

// TestSlowStoreOutlivesTheBodysDeadline: the deadline must not end the request
// once the body is there.
func TestSlowStoreOutlivesTheBodysDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		h.store.appending = func([]store.Append) { <-time.After(2 * bodyTimeout) }
		conn := pipeServer(t, h.handler)()
		if _, err := io.WriteString(conn, "POST "+eventsPath+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n"+`{"type":"x"}`); err != nil {
			t.Fatal(err)
		}
		a, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		if a.StatusCode != http.StatusCreated {
			t.Errorf("status %d", a.StatusCode)
		}
	})
}

// panickingBody is a defect in what reads the stream.
type panickingBody struct{}

func (panickingBody) Read([]byte) (int, error) { panic("secret defect") }

// TestStreamReaderPanics: it must not end the process, whose other requests
// are not at fault.
func TestStreamReaderPanics(t *testing.T) {
	h := newHarness(t)
	r := httptest.NewRequest("POST", eventsPath, panickingBody{})
	r.Header.Set("Content-Type", ndjsonBody)
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	a := httpAnswer{t, w.Code, w.Header(), w.Body.Bytes()}
	if p := a.want(http.StatusInternalServerError).problem(buildcast.Internal, ""); strings.Contains(p.Detail, "secret") {
		t.Errorf("the answer shows the panic: %+v", p)
	}
}

// TestClientThatDoesNotRead: a large answer does not wait for it for ever.
func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		h.stream("b1", lines(1000)).want(http.StatusCreated)
		served := make(chan time.Duration, 1)
		conn := pipeServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := time.Now()
			h.handler.ServeHTTP(w, r)
			served <- time.Since(start)
		}))()
		if _, err := io.WriteString(conn, "GET "+eventsPath+"?limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if took := <-served; took != body.SendTimeout {
			t.Errorf("it was served for %v", took)
		}
	})
}

// TestStreamsAtOnce has several streams, and events beside them, on one build.
func TestStreamsAtOnce(t *testing.T) {
	h := newHarness(t)
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			r := httptest.NewRequest("POST", eventsPath, strings.NewReader(lines(2000)))
			r.Header.Set("Content-Type", ndjsonBody)
			w := httptest.NewRecorder()
			h.handler.ServeHTTP(w, r)
			a := decode[streamed](httpAnswer{t, w.Code, w.Header(), w.Body.Bytes()})
			ids := int64(0)
			for _, r := range a.IDRanges {
				ids += r[1] - r[0] + 1
			}
			if a.Count != 2000 || ids != 2000 {
				t.Errorf("count %d, %d ids", a.Count, ids)
			}
		})
	}
	clients.Wait()
	if got := len(h.store.events("b1")); got != 8000 {
		t.Errorf("%d events", got)
	}
}
