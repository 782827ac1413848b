package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/buildcast/buildcast"
)

// Bounds of one request, as the server has them.
const (
	maxEvents = 1000
	maxBody   = 4 << 20 // bytes
)

// Append stores the events, in order, at the end of the build's log and returns
// their ids. An unknown build id starts an external build. More events than one
// request takes (1,000, or 4 MiB) go in several: after an error ids are those of
// the events that are known to be stored, the first ones. With a Key in each
// event the same call can be made again. Errors: InvalidArgument and TooLarge,
// with nothing stored, the Field being such as [3].data; Overloaded and
// StoreUnavailable, after which it may be tried again.
func (c *Client) Append(ctx context.Context, buildID string, events ...buildcast.NewEvent) (ids []int64, err error) {
	if err := buildcast.ValidateBuildID(buildID); err != nil {
		return nil, err
	}
	for i, e := range events { // a copy: the caller's stay as they are
		if err := e.Validate(); err != nil {
			return nil, inArray(err, i)
		}
	}
	for len(ids) < len(events) {
		body, n, err := encode(events[len(ids):])
		if err != nil {
			return ids, err
		}
		var answer struct {
			IDs []int64 `json:"ids"`
		}
		if err := c.do(ctx, appendRequest(buildID, jsonType, body), &answer); err != nil {
			return ids, err
		}
		if len(answer.IDs) != n {
			return ids, strange(c, fmt.Sprintf("took %d events and gave %d ids", n, len(answer.IDs)))
		}
		ids = append(ids, answer.IDs...)
	}
	return ids, nil
}

func appendRequest(buildID, contentType string, body io.Reader) request {
	return request{
		method: http.MethodPost, path: "builds/" + buildID + "/events",
		header: http.Header{"Content-Type": {contentType}}, body: body,
	}
}

// encode returns the JSON array of as many of the events, the first n, as one request takes.
func encode(events []buildcast.NewEvent) (body *bytes.Buffer, n int, err error) {
	body = bytes.NewBufferString("[")
	enc := encoder(body)
	for n < min(len(events), maxEvents) {
		before := body.Len()
		if n > 0 {
			body.WriteByte(',')
		}
		if err := enc.Encode(&events[n]); err != nil {
			return nil, 0, inArray(err, n)
		}
		if body.Len() >= maxBody && n > 0 {
			body.Truncate(before)
			break
		}
		n++
	}
	body.WriteByte(']')
	return body, n, nil
}

// inArray puts the event's index before the field that the error names.
func inArray(err error, i int) error {
	e, ok := errors.AsType[*buildcast.Error](err)
	if !ok {
		return fmt.Errorf("[%d]: %w", i, err)
	}
	at := fmt.Sprintf("[%d]", i)
	if e.Field != "" {
		at += "." + e.Field
	}
	return e.At(at)
}

// Streamed says how far a stream came.
type Streamed struct {
	Count       int64 `json:"count"`       // events that are stored
	LastEventID int64 `json:"lastEventId"` // the last id given to one of them
}

// AppendStream sends r, one event of JSON a line, as it comes and of any length;
// the server stores lines while later ones are still being read. It bounds no
// time but ctx's, and does not close r. After an error that the server answers
// with, Streamed still says how many of the first events are stored.
func (c *Client) AppendStream(ctx context.Context, buildID string, r io.Reader) (Streamed, error) {
	if err := buildcast.ValidateBuildID(buildID); err != nil {
		return Streamed{}, err
	}
	req := appendRequest(buildID, ndjsonType, io.NopCloser(r))
	req.wait = -1
	var s Streamed
	err := c.do(ctx, req, &s)
	if p, ok := errors.AsType[*rejected](err); ok {
		s = Streamed{Count: p.problem.Count, LastEventID: p.problem.LastEventID}
	}
	return s, err
}

// Poll is the events after a cursor.
type Poll struct {
	Events       []buildcast.Event `json:"events"`
	FirstEventID int64             `json:"firstEventId"` // of the events that are kept
	LastEventID  int64             `json:"lastEventId"`  // the cursor for the next poll
	HasMore      bool              `json:"hasMore"`      // there are more events already
}

// Events returns the events with an id greater than after, at most limit of them
// (0: the server's own limit, 1,000 at most). If there is none yet it waits for
// one, as long as wait says (a minute at most). An unknown build has no events.
// Errors: CursorAhead if after is beyond the log's end, CursorGone if the event
// after it is no longer kept; both are a *buildcast.CursorError.
func (c *Client) Events(ctx context.Context, buildID string, after int64, limit int, wait time.Duration) (Poll, error) {
	return c.EventsFrom(ctx, buildID, buildcast.Start{After: after}, limit, wait)
}

// EventsFrom is Events for a cursor that begins elsewhere, such as with the last
// events. Go on with Events after the answer's LastEventID.
func (c *Client) EventsFrom(ctx context.Context, buildID string, start buildcast.Start, limit int, wait time.Duration) (Poll, error) {
	if err := buildcast.ValidateBuildID(buildID); err != nil {
		return Poll{}, err
	}
	q := url.Values{}
	switch {
	case start.Latest:
		q.Set("from", "latest")
	case start.Tail > 0:
		q.Set("tail", strconv.FormatInt(start.Tail, 10))
	default:
		q.Set("lastEventId", strconv.FormatInt(start.After, 10))
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	if wait = max(wait, 0); wait > 0 {
		q.Set("wait", wait.String())
	}
	var p Poll
	err := c.do(ctx, request{method: http.MethodGet, path: "builds/" + buildID + "/events", query: q, wait: wait}, &p)
	return p, err
}
