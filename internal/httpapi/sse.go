package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deflate"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/httpapi/query"
	"github.com/buildcast/buildcast/internal/live"
)

const (
	heartbeat    = 15 * time.Second // a comment on a quiet stream, so that proxies and clients know that it lives
	frameTimeout = 30 * time.Second // for a frame to be taken by the network
	storePause   = time.Second      // after the store could not be read
	maxStreams   = 20               // builds on one stream
)

// streamEvents is GET /events/{id}: one build as server-sent events.
func (a *api) streamEvents(w http.ResponseWriter, r *http.Request) error {
	id, err := a.buildID(r)
	if err != nil {
		return err
	}
	start, err := streamStart(r)
	if err != nil {
		return err
	}
	return a.stream(w, r, []string{id}, []buildcast.Start{start}, false)
}

// streamMany is GET /events?build=a&build=b: several builds on one stream. Each
// event's id names all cursors, such as a:7,b:3, and is sent back as it is.
func (a *api) streamMany(w http.ResponseWriter, r *http.Request) error {
	q, err := query.Of(r)
	if err != nil {
		return err
	}
	ids := q["build"]
	if len(ids) == 0 || len(ids) > maxStreams {
		return buildcast.Errorf(buildcast.InvalidArgument, "%d builds are asked for: name 1 to %d as build=ID", len(ids), maxStreams).At("build")
	}
	index := make(map[string]int, len(ids))
	for i, id := range ids {
		if err := buildcast.ValidateBuildID(id); err != nil {
			return problem.At(err, "build")
		}
		if err := a.mayUse(r, id); err != nil {
			return err
		}
		if _, twice := index[id]; twice {
			return buildcast.Errorf(buildcast.InvalidArgument, "build %s is named twice", id).At("build")
		}
		index[id] = i
	}
	starts, err := manyStarts(r, q, index)
	if err != nil {
		return err
	}
	return a.stream(w, r, ids, starts, true)
}

// manyStarts reads where the cursors of several builds begin; index has each
// build's place in the answer.
func manyStarts(r *http.Request, q url.Values, index map[string]int) ([]buildcast.Start, error) {
	starts := make([]buildcast.Start, len(index))
	given := r.Header.Get(lastEventIDHeader)
	if given == "" {
		if err := oneCursor(q); err != nil {
			return nil, err
		}
		for i := range starts {
			var err error
			if starts[i], err = readEnd(q, starts[i]); err != nil {
				return nil, err
			}
		}
		given = cmp.Or(q.Get(cursorParam.Name), q.Get(cursorAlias.Name))
	}
	if given == "" {
		return starts, nil
	}
	for part := range strings.SplitSeq(given, ",") {
		id, n, _ := strings.Cut(part, ":")
		cursor, err := strconv.ParseInt(n, 10, 64)
		i, known := index[id]
		if err != nil || cursor < 0 || !known {
			return nil, buildcast.Errorf(buildcast.InvalidArgument, "lastEventId of several builds is a list such as a:7,b:3 with the builds that are asked for").At(cursorParam.Name)
		}
		starts[i].After = cursor
	}
	return starts, nil
}

// wantsStream reports whether the client asks for server-sent events.
func wantsStream(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// streamed build: its cursor, and whether its end was sent.
type streamedBuild struct {
	id     string
	cursor *live.Cursor
	begun  live.Beginning
	ended  bool
}

// sse is one open stream.
type sse struct {
	w       http.ResponseWriter
	conn    *http.ResponseController
	woken   chan struct{} // capacity 1
	builds  []*streamedBuild
	several bool
	gzip    *deflate.Member             // nil: the client does not take gzip
	problem func(error) problem.Problem // what the client is told of an error
}

// stream answers with events until all builds are over, the client leaves or the
// server stops; then clients go on from their cursor.
func (a *api) stream(w http.ResponseWriter, r *http.Request, ids []string, starts []buildcast.Start, several bool) error {
	s := &sse{w: w, conn: http.NewResponseController(w), woken: make(chan struct{}, 1), several: several, problem: a.problem}
	if acceptsGzip(r) {
		s.gzip = new(deflate.Member)
	}
	if r.Method == http.MethodHead { // it has no events, so it would never end
		s.head()
		w.WriteHeader(http.StatusOK)
		return nil
	}
	over := 0
	for i, id := range ids {
		b := &streamedBuild{id: id, cursor: a.Hub.WatchFrom(id, starts[i], s.wake)}
		defer b.cursor.Close()
		s.builds = append(s.builds, b)
		var err error
		if b.begun, err = b.cursor.Begin(r.Context()); err != nil {
			return err
		}
		status := b.begun.Status
		if b.ended = status != nil && status.Phase.Terminal() && b.begun.After >= status.LastEventID; b.ended {
			over++
		}
	}
	if over == len(ids) {
		w.WriteHeader(http.StatusNoContent) // an EventSource does not come back after it
		return nil
	}
	return s.run(r.Context(), a.Stopping)
}

func (s *sse) wake() {
	select {
	case s.woken <- struct{}{}:
	default: // it has a wake-up waiting already
	}
}

// head sets the headers. Only gzip is offered: a compressed form that all readers
// of a batch share must stand alone, which for zstd means a frame of its own, and
// browsers need not read on after the first frame of an answer.
func (s *sse) head() {
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx would hold the stream back
	h.Add("Vary", "Accept-Encoding")
	if s.gzip != nil {
		h.Set("Content-Encoding", "gzip")
	}
}

// beginning is what a stream begins with. It comes at once, so that a client can
// tell a quiet stream from one that a proxy holds back; with a pause before the
// next attempt of its own for each client, so that they do not all come back in the
// same moment; and with each build's cursor and status.
func (s *sse) beginning() []byte {
	out := fmt.Appendf(nil, "retry: %d\n\n", 1000+rand.IntN(2000)) //nolint:gosec // it only spreads clients
	var cursors []string
	for _, b := range s.builds {
		cursors = append(cursors, fmt.Sprintf("%s:%d", b.id, b.begun.After))
	}
	for _, b := range s.builds {
		id := strconv.FormatInt(b.begun.After, 10)
		if s.several {
			id = strings.Join(cursors, ",")
		}
		data, _ := json.Marshal(beginEvent{b.id, b.begun.After, b.begun.FirstEventID, b.begun.LastEventID, b.begun.Status}) // strings and numbers: it cannot fail
		out = fmt.Appendf(out, "event: begin\nid: %s\ndata: %s\n\n", id, data)
	}
	return out
}

// beginEvent is the data of event: begin.
type beginEvent struct {
	BuildID      string            `json:"buildId"`
	After        int64             `json:"after"`        // the events after it follow
	FirstEventID int64             `json:"firstEventId"` // of the log
	LastEventID  int64             `json:"lastEventId"`  // likewise
	Status       *buildcast.Status `json:"status"`       // null: there is no such build yet
}

// run writes the stream.
func (s *sse) run(ctx, stopping context.Context) error {
	s.head()
	if s.gzip != nil {
		if _, err := io.WriteString(s.w, deflate.Header); err != nil {
			return nil // the client has left
		}
		defer s.endGzip()
	}
	if !s.send(s.beginning()) {
		return nil
	}
	quiet := time.NewTicker(heartbeat)
	defer quiet.Stop()
	for {
		goOn, err := s.takeAll(ctx)
		if !goOn {
			return nil
		}
		var again <-chan time.Time
		if err != nil {
			again = time.After(storePause)
		}
		select {
		case <-s.woken:
		case <-again:
		case <-quiet.C:
			if !s.send([]byte(":\n\n")) {
				return nil
			}
		case <-stopping.Done():
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// takeAll sends what there is now. goOn is false when the stream is over.
func (s *sse) takeAll(ctx context.Context) (goOn bool, err error) {
	for sent := true; sent; { // a batch may be a piece of what there is
		sent, goOn = false, false
		for _, b := range s.builds {
			if b.ended {
				continue
			}
			batch, err := b.cursor.Take(ctx)
			if e, ok := errors.AsType[*buildcast.CursorError](err); ok {
				s.send(s.problemFrame(e)) // the log was cut: the client must begin elsewhere
				return false, nil
			}
			if err != nil {
				return ctx.Err() == nil, err
			}
			if goOn = true; batch == nil {
				continue
			}
			if sent = true; !s.sendBatch(batch) || batch.Ended() && !s.end(b, batch) {
				return false, nil
			}
		}
	}
	return goOn, nil
}

// end tells the client that nothing more comes of the build.
func (s *sse) end(b *streamedBuild, last *live.Batch) bool {
	b.ended = true
	return s.send(endFrame(last))
}

// compositeBytes is about how much of a batch is encoded for one stream at once.
const compositeBytes = 32 << 10

// sendComposite sends the batch with ids that name the cursors of all builds. No
// other stream shares it, so it is made and sent in pieces.
func (s *sse) sendComposite(batch *live.Batch) bool {
	var before, behind string
	found := false
	for _, b := range s.builds {
		switch {
		case b.id == batch.BuildID:
			found = true
		case !found:
			before += fmt.Sprintf("%s:%d,", b.id, b.cursor.After())
		default:
			behind += fmt.Sprintf(",%s:%d", b.id, b.cursor.After())
		}
	}
	out := make([]byte, 0, min(batch.Size()+80*len(batch.Events), 2*compositeBytes))
	for i := range batch.Events {
		e := &batch.Events[i]
		out = fmt.Appendf(out, "id: %s%s:%d%s\ndata: ", before, e.BuildID, e.ID, behind)
		out = append(e.AppendJSON(out), "\n\n"...)
		if len(out) >= compositeBytes || i == len(batch.Events)-1 {
			if !s.send(out) {
				return false
			}
			out = out[:0]
		}
	}
	return true
}

// problemFrame says why the stream ends before its builds do.
func (s *sse) problemFrame(err error) []byte {
	data, _ := json.Marshal(s.problem(err)) // strings and numbers: it cannot fail
	return fmt.Appendf(nil, "event: problem\ndata: %s\n\n", data)
}

// endFrame says that nothing more comes of a build, with its last status.
func endFrame(b *live.Batch) []byte {
	status, err := json.Marshal(&b.Status)
	if err != nil {
		status = []byte("{}") // a status is strings and numbers: it cannot fail
	}
	return fmt.Appendf(nil, "event: end\ndata: %s\n\n", status)
}

// sendBatch sends the form of the batch that all readers of its kind share, if there
// is one.
func (s *sse) sendBatch(b *live.Batch) bool {
	switch {
	case s.several:
		return s.sendComposite(b)
	case s.gzip == nil:
		return s.put(b.SSE())
	}
	s.gzip.Add(b.SSE())
	return s.put(b.Deflated())
}

// send sends a frame of this stream alone, and reports whether the client took it.
func (s *sse) send(frame []byte) bool {
	if s.gzip == nil {
		return s.put(frame)
	}
	s.gzip.Add(frame)
	return s.put(deflate.Piece(frame))
}

// endGzip lets a reader tell the end of the stream from a connection that broke.
func (s *sse) endGzip() { s.put(s.gzip.Trailer()) }

// put writes the bytes as they are.
func (s *sse) put(b []byte) bool {
	_ = s.conn.SetWriteDeadline(time.Now().Add(frameTimeout))
	if _, err := s.w.Write(b); err != nil {
		return false
	}
	return s.conn.Flush() == nil
}

// acceptsGzip reports whether the client takes gzip.
func acceptsGzip(r *http.Request) bool {
	for _, h := range r.Header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(h, ",") {
			name, weight, _ := strings.Cut(coding, ";")
			name, weight = strings.TrimSpace(name), strings.ReplaceAll(weight, " ", "")
			if strings.EqualFold(name, "gzip") {
				refused := strings.HasPrefix(weight, "q=0") && strings.Trim(weight, "q=0.") == ""
				return !refused
			}
		}
	}
	return false
}
