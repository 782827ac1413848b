package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deflate"
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
	after, err := streamCursor(r)
	if err != nil {
		return err
	}
	return a.stream(w, r, []string{id}, []int64{after}, false)
}

// streamMany is GET /events?build=a&build=b: several builds on one stream. Each
// event's id names all cursors, such as a:7,b:3, and is sent back as it is.
func (a *api) streamMany(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	ids := q["build"]
	if len(ids) == 0 || len(ids) > maxStreams {
		return buildcast.Errorf(buildcast.InvalidArgument, "%d builds are asked for: name 1 to %d as build=ID", len(ids), maxStreams).At("build")
	}
	cursors := make([]int64, len(ids))
	index := make(map[string]int, len(ids))
	for i, id := range ids {
		if err := buildcast.ValidateBuildID(id); err != nil {
			return at(err, "build")
		}
		if err := a.mayUse(r, id); err != nil {
			return err
		}
		if _, twice := index[id]; twice {
			return buildcast.Errorf(buildcast.InvalidArgument, "build %s is named twice", id).At("build")
		}
		index[id] = i
	}
	if given := givenCursor(r); given != "" {
		for part := range strings.SplitSeq(given, ",") {
			id, n, _ := strings.Cut(part, ":")
			cursor, err := strconv.ParseInt(n, 10, 64)
			i, known := index[id]
			if err != nil || cursor < 0 || !known {
				return buildcast.Errorf(buildcast.InvalidArgument, "lastEventId of several builds is a list such as a:7,b:3 with the builds that are asked for").At(cursorParam.name)
			}
			cursors[i] = cursor
		}
	}
	return a.stream(w, r, ids, cursors, true)
}

// wantsStream reports whether the client asks for server-sent events.
func wantsStream(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// givenCursor is the cursor that the request carries. The header wins: an
// EventSource that reconnects sends the newest id there, and its first URL again.
func givenCursor(r *http.Request) string {
	if h := r.Header.Get("Last-Event-ID"); h != "" {
		return h
	}
	q := r.URL.Query()
	if q.Has(cursorParam.name) {
		return q.Get(cursorParam.name)
	}
	return q.Get(cursorAlias.name)
}

func streamCursor(r *http.Request) (int64, error) {
	given := givenCursor(r)
	if given == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(given, 10, 64)
	if err != nil || n < 0 {
		return 0, buildcast.Errorf(buildcast.InvalidArgument, "lastEventId %.40q is not a cursor: use 0 or the id of the last event you have seen", given).At(cursorParam.name)
	}
	return n, nil
}

// streamed build: its cursor, and whether its end was sent.
type streamedBuild struct {
	id     string
	cursor *live.Cursor
	ended  bool
}

// sse is one open stream.
type sse struct {
	w       http.ResponseWriter
	conn    *http.ResponseController
	woken   chan struct{} // capacity 1
	builds  []*streamedBuild
	several bool
	gzip    *deflate.Member // nil: the client does not take gzip
}

// stream answers with events until all builds are over, the client leaves or the
// server stops; then clients go on from their cursor.
func (a *api) stream(w http.ResponseWriter, r *http.Request, ids []string, after []int64, several bool) error {
	s := &sse{w: w, conn: http.NewResponseController(w), woken: make(chan struct{}, 1), several: several}
	if acceptsGzip(r) {
		s.gzip = new(deflate.Member)
	}
	wake := func() {
		select {
		case s.woken <- struct{}{}:
		default: // it has a wake-up waiting already
		}
	}
	over := 0
	for i, id := range ids {
		b := &streamedBuild{id: id, cursor: a.Watch(id, after[i], wake)}
		defer b.cursor.Close()
		s.builds = append(s.builds, b)
		status, err := b.cursor.Status(r.Context())
		if buildcast.CodeOf(err) == buildcast.CursorAhead {
			last := status.LastEventID
			return &partial{Reached{LastEventID: &last}, err}
		}
		if err != nil {
			return err
		}
		if b.ended = status.Phase.Terminal() && after[i] >= status.LastEventID; b.ended {
			over++
		}
	}
	if over == len(ids) {
		w.WriteHeader(http.StatusNoContent) // an EventSource does not come back after it
		return nil
	}
	return s.run(r.Context(), a.Stopping)
}

// run writes the stream. Only gzip is offered: a compressed form that all readers
// of a batch share must stand alone, which for zstd means a frame of its own, and
// browsers need not read on after the first frame of an answer.
func (s *sse) run(ctx, stopping context.Context) error {
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx would hold the stream back
	h.Add("Vary", "Accept-Encoding")
	if s.gzip != nil {
		h.Set("Content-Encoding", "gzip")
		if _, err := io.WriteString(s.w, deflate.Header); err != nil {
			return nil // the client has left
		}
		defer s.endGzip()
	}
	// Something at once, so that a client can tell a quiet stream from one that a
	// proxy holds back; and a pause of its own for each, so that they do not all
	// come back in the same moment.
	if !s.send(fmt.Appendf(nil, "retry: %d\n\n", 1000+rand.IntN(2000))) { //nolint:gosec // it spreads clients, no more
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

// endFrame says that nothing more comes of a build, with its last status.
func endFrame(b *live.Batch) []byte {
	status, err := json.Marshal(&b.Status)
	if err != nil {
		status = []byte("{}") // a status is strings and numbers: it cannot fail
	}
	return fmt.Appendf(nil, "event: end\ndata: %s\n\n", status)
}

// sendBatch sends the forms of the batch that all readers share, where there are such.
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
