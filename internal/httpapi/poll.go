package httpapi

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
)

var (
	cursorParam = intParam{"lastEventId", 0, math.MaxInt64, 0, "The id of the last event that was seen: the answer begins after it. last_event_id is the same."}
	limitParam  = intParam{"limit", 1, 1000, 500, "How many events to answer with at most."}
	waitParam   = durationParam{"wait", time.Minute, "Where there is nothing new, how long to wait for it: a duration such as 25s, or seconds. The answer comes as soon as there are events; at once for a finished build."}

	// cursorAlias is another spelling that clients use.
	cursorAlias = intParam{name: "last_event_id", max: math.MaxInt64}
)

// readBytes is less than what the log reads at most at once (4 MiB of data), by
// more than one event: a page with less data was not cut short for its size.
const readBytes = 3 << 20

// poll is what a poll asks for.
type poll struct {
	buildID string
	after   int64
	limit   int
	wait    time.Duration
}

// page is the answer to a poll.
type page struct {
	Events      []buildcast.Event `json:"events"`
	LastEventID int64             `json:"lastEventId" doc:"Of the last event here; the cursor that was sent, if there is none. Send it with the next poll."`
	HasMore     bool              `json:"hasMore" doc:"There are more events already: poll again at once"`
}

func (a *api) readPoll(r *http.Request) (p poll, err error) {
	if p.buildID, err = a.buildID(r); err != nil {
		return p, err
	}
	q, err := query(r)
	if err != nil {
		return p, err
	}
	cursor := cursorParam
	if !q.Has(cursor.name) {
		cursor = cursorAlias
	}
	if p.after, err = cursor.read(q); err != nil {
		return p, err
	}
	limit, err := limitParam.read(q)
	if err != nil {
		return p, err
	}
	p.limit = int(limit)
	p.wait, err = waitParam.read(q)
	return p, err
}

// pollEvents gives the events after a cursor, and waits for them if asked to.
func (a *api) pollEvents(w http.ResponseWriter, r *http.Request) error {
	if wantsStream(r) {
		return a.streamEvents(w, r)
	}
	p, err := a.readPoll(r)
	if err != nil {
		return err
	}
	page, err := a.readPage(r.Context(), p)
	if err != nil {
		return err
	}
	if len(page.Events) == 0 && !page.HasMore && p.wait > 0 {
		if page, err = a.waitPage(r.Context(), p); err != nil {
			return err
		}
	}
	h := w.Header()
	if p.wait > 0 {
		h.Set("Cache-Control", "no-store")
		page.send(w)
		return nil
	}
	// A full page never changes: ids have no gaps and events no second version.
	// Any other may grow, even after the build's end.
	cache := "private, no-cache"
	if page.HasMore && len(page.Events) > 0 {
		cache = "private, max-age=3600, immutable"
	}
	h.Set("Cache-Control", cache)
	if notModified(w, r, page.etag(p)) {
		return nil
	}
	page.send(w)
	return nil
}

// readPage reads what is there now. A cursor beyond the log's end is an error,
// never an empty answer: the client would wait for ever.
func (a *api) readPage(ctx context.Context, p poll) (page, error) {
	events, err := a.Log.Read(ctx, p.buildID, p.after, p.limit)
	if err != nil {
		return page{}, err
	}
	answer := pageOf(p, events)
	if len(events) == 0 && p.after == 0 || len(events) > 0 && !mayGoOn(p, events) {
		return answer, nil
	}
	found, err := a.Statuses(ctx, []string{p.buildID})
	if err != nil {
		return page{}, err
	}
	last := found[p.buildID].LastEventID
	if last < p.after {
		return page{}, cursorAhead(p, last)
	}
	answer.HasMore = last > answer.LastEventID
	return answer, nil
}

func pageOf(p poll, events []buildcast.Event) page {
	answer := page{Events: events, LastEventID: p.after}
	if len(events) > 0 {
		answer.LastEventID = events[len(events)-1].ID
	}
	return answer
}

// mayGoOn reports whether the read may have been cut by its limits.
func mayGoOn(p poll, events []buildcast.Event) bool {
	size := 0
	for i := range events {
		size += len(events[i].Data)
	}
	return len(events) >= p.limit || size >= readBytes
}

func cursorAhead(p poll, last int64) error {
	err := buildcast.Errorf(buildcast.CursorAhead, "lastEventId is %d, but the log of build %s ends at %d: it may have been deleted and made again; start from 0", p.after, p.buildID, last).At("lastEventId")
	return &partial{Reached{LastEventID: &last}, err}
}

// waitPage waits for the first events after the cursor. Its watch reads before
// it waits, so an event since readPage is not missed.
func (a *api) waitPage(ctx context.Context, p poll) (page, error) {
	nothing := pageOf(p, nil)
	found, err := a.Statuses(ctx, []string{p.buildID})
	if err != nil {
		return page{}, err
	}
	// A build that is not found is waited for: watchers may come before it.
	if status := found[p.buildID]; status.Phase.Terminal() && status.LastEventID <= p.after {
		return nothing, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.wait, errWaited)
	defer cancel()
	stop := context.AfterFunc(a.Stopping, cancel) //nolint:contextcheck // the server's context: one that stops answers now
	defer stop()
	cursor := a.Watch(p.buildID, p.after, nil)
	defer cursor.Close()
	batch, err := cursor.Next(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return nothing, nil // nobody reads it where the client has left
	case err != nil:
		return page{}, err
	}
	events := batch.Events
	full := len(events) > p.limit
	answer := pageOf(p, events[:min(len(events), p.limit)])
	answer.HasMore = full || mayGoOn(p, events)
	return answer, nil
}

var errWaited = errors.New("nothing came while the poll waited")

// etag tells answers to one URL apart; the time tells a build from one that had
// the same id before.
func (g page) etag(p poll) string {
	b := make([]byte, 0, 96)
	b = append(b, `W/"`...)
	b = append(b, p.buildID...)
	for _, n := range [...]int64{p.after, g.LastEventID, g.at()} {
		b = append(b, '.')
		b = strconv.AppendInt(b, n, 36)
	}
	if g.HasMore {
		b = append(b, '+')
	}
	return string(append(b, '"'))
}

func (g page) at() int64 {
	if len(g.Events) == 0 {
		return 0
	}
	return g.Events[len(g.Events)-1].Timestamp.Std().UnixMilli()
}

var pageBuffers = sync.Pool{New: func() any { return new([]byte) }}

const maxPooled = 256 << 10 // bytes; larger buffers are left to the collector

func (g page) send(w http.ResponseWriter) {
	buf := pageBuffers.Get().(*[]byte)
	b := append((*buf)[:0], `{"events":[`...)
	for i := range g.Events {
		if i > 0 {
			b = append(b, ',')
		}
		b = g.Events[i].AppendJSON(b)
	}
	b = append(b, `],"lastEventId":`...)
	b = strconv.AppendInt(b, g.LastEventID, 10)
	b = append(b, `,"hasMore":`...)
	b = strconv.AppendBool(b, g.HasMore)
	b = append(b, '}')
	send(w, http.StatusOK, jsonBody, b)
	if cap(b) <= maxPooled {
		*buf = b
		pageBuffers.Put(buf)
	}
}

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
