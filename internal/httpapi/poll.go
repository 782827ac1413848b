package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/query"
)

var (
	limitParam = query.Int{Name: "limit", Min: 1, Max: 1000, Default: 500, Doc: "How many events to answer with at most."}
	waitParam  = query.Duration{Name: "wait", Max: time.Minute, Doc: "If there is nothing new, how long to wait for it: a duration such as 25s, or seconds. The answer comes as soon as there are events; at once for a finished build."}
)

// poll is what a poll asks for.
type poll struct {
	buildID string
	start   buildcast.Start
	limit   int64
	wait    time.Duration
}

// page is the answer to a poll; see pageWriter.
type page struct {
	Events       []buildcast.Event `json:"events"`
	FirstEventID int64             `json:"firstEventId" doc:"Of the events that are kept; lastEventId of the log + 1 if none is"`
	LastEventID  int64             `json:"lastEventId" doc:"The cursor to send with the next poll: the id of the last event here; if there is none, of where the cursor stands"`
	HasMore      bool              `json:"hasMore" doc:"There are more events already: poll again at once"`
}

func (a *api) readPoll(r *http.Request) (p poll, err error) {
	if p.buildID, err = a.buildID(r); err != nil {
		return p, err
	}
	q, err := query.Of(r)
	if err != nil {
		return p, err
	}
	if p.start, err = readStart(q); err != nil {
		return p, err
	}
	if p.limit, err = limitParam.Read(q); err != nil {
		return p, err
	}
	p.wait, err = waitParam.Read(q)
	if r.Method == http.MethodHead {
		p.wait = 0 // nobody waits for an answer without events
	}
	return p, err
}

// pollEvents answers with the events after a cursor, and waits for them if asked to.
func (a *api) pollEvents(w http.ResponseWriter, r *http.Request) error {
	if wantsStream(r) {
		return a.streamEvents(w, r)
	}
	p, err := a.readPoll(r)
	if err != nil {
		return err
	}
	w.Header().Add("Vary", "Accept-Encoding")
	for range cutsDuringAPoll {
		s, err := a.findSpan(r.Context(), p)
		if err != nil {
			return err
		}
		if s.after == s.last && p.wait > 0 {
			return a.longPoll(w, r, p, s)
		}
		if done, err := a.sendSpan(w, r, p, s); done || err != nil {
			return err
		}
	}
	return buildcast.Errorf(buildcast.Internal, "events of build %s are missing in the store", p.buildID)
}

// cutsDuringAPoll is how often the log may be cut while it is read.
const cutsDuringAPoll = 3

// span is the part of a log that a page answers with.
type span struct {
	first, last int64 // of the log
	after, end  int64 // the page's, at most: a page may end before
}

// findSpan finds the cursor's place in the log. A cursor that is not in the log is
// an error, never an empty answer: the client would wait for ever.
func (a *api) findSpan(ctx context.Context, p poll) (s span, err error) {
	bounds, err := a.Events.Bounds(ctx, []string{p.buildID})
	if err != nil {
		return s, err
	}
	s.first, s.last = 1, 0
	if b, ok := bounds[p.buildID]; ok {
		s.first, s.last = b.First, b.Last
	}
	s.after, err = p.start.Within(s.first, s.last)
	s.end = min(s.last, s.after+p.limit)
	return s, err
}

// sendSpan answers with a page of the store's. It reports false if it has sent
// nothing, because the log was cut meanwhile.
func (a *api) sendSpan(w http.ResponseWriter, r *http.Request, p poll, s span) (bool, error) {
	h := w.Header()
	if p.wait > 0 {
		h.Set("Cache-Control", "no-store")
	} else {
		h.Set("Cache-Control", p.caching(s))
		if notModified(w, r, s.etag(p)) {
			return true, nil
		}
	}
	out := newPageWriter(w, r, a.Hub)
	defer out.close()
	ctx := r.Context()
	done, err := out.page(s, func(after int64) ([]buildcast.Event, error) {
		return a.Events.ReadEvents(ctx, p.buildID, after, int(min(s.end-after, pieceEvents)), pieceBytes)
	})
	if err != nil {
		h.Del("ETag")
	}
	return done, err
}

// caching says how long a page is good for. A full page never changes: ids have no
// gaps and events no second version. Any other may grow, even after the build's
// end. A page without a cursor begins with the first event that is kept, which may
// be another later.
func (p poll) caching(s span) string {
	if p.start.After > 0 && s.last > s.end {
		return "private, max-age=3600, immutable"
	}
	return "private, no-cache"
}

// etag tells answers to one URL apart.
func (s span) etag(p poll) string {
	b := make([]byte, 0, 96)
	b = append(b, `W/"`...)
	b = append(b, p.buildID...)
	for _, n := range [...]int64{s.after, s.end, s.first} {
		b = append(b, '.')
		b = strconv.AppendInt(b, n, 36)
	}
	if s.last > s.end {
		b = append(b, '+')
	}
	return string(append(b, '"'))
}

// longPoll waits for the first events after the end of the log. Its watch reads
// before it waits, so an event that came meanwhile is not missed.
func (a *api) longPoll(w http.ResponseWriter, r *http.Request, p poll, s span) error {
	w.Header().Set("Cache-Control", "no-store")
	out := newPageWriter(w, r, a.Hub)
	defer out.close()
	nothing := func(int64) ([]buildcast.Event, error) { return nil, nil }
	cursor := a.Hub.WatchFrom(p.buildID, buildcast.Start{After: s.after}, nil)
	defer cursor.Close()
	begun, err := cursor.Begin(r.Context())
	if err != nil {
		return err
	}
	// A build that does not exist is waited for: watchers may come before it.
	if begun.Status != nil && begun.Status.Phase.Terminal() && begun.LastEventID <= begun.After {
		_, err := out.page(s, nothing)
		return err
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), p.wait, errWaited)
	defer cancel()
	stop := context.AfterFunc(a.Stopping, cancel) //nolint:contextcheck // the server's context: one that stops answers now
	defer stop()
	batch, err := cursor.Next(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		_, err := out.page(s, nothing) // nobody reads it if the client has left
		return err
	case err != nil:
		return err
	}
	s.first, s.last = max(s.first, batch.Status.FirstEventID), batch.Status.LastEventID
	s.after = batch.First() - 1
	s.end = min(batch.Last(), s.after+p.limit)
	_, err = out.page(s, func(after int64) ([]buildcast.Event, error) {
		return pieceOf(batch.Events[after+1-batch.First() : s.end+1-batch.First()]), nil
	})
	return err
}

var errWaited = errors.New("nothing came while the poll waited")

// notModified sends the tag, and answers 304 where the client has that version.
func notModified(w http.ResponseWriter, r *http.Request, etag string) bool {
	w.Header().Set("ETag", etag)
	for _, have := range r.Header.Values("If-None-Match") {
		for tag := range strings.SplitSeq(have, ",") {
			// Weak comparison: a proxy may have made the tag weak, or strong.
			if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag[len("W/"):] {
				w.WriteHeader(http.StatusNotModified)
				return true
			}
		}
	}
	return false
}
