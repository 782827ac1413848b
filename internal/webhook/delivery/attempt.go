package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/webhook/outbound"
	"github.com/buildcast/buildcast/internal/webhook/request"
)

const (
	keptBody = 8 << 10  // bytes of an answer that are kept
	readBody = 64 << 10 // bytes of an answer that are read, so that the connection can be used again
)

// outcome is the outcome of an attempt.
type outcome struct {
	buildcast.Attempt
	ok         bool // the status is 2xx, and the whole answer arrived
	cancelled  bool // by the end of the dispatcher: it is not the receiver's failure
	gone       bool // the status is 410: the receiver wants no more requests
	retryAfter time.Duration
}

// attempt sends the event once, for the try-th time, and counts it.
func (n *sender) attempt(ep *Endpoint, e *buildcast.Event, try int) outcome {
	o := n.dispatcher.send(ep, e, try)
	if !o.cancelled {
		n.counts.Attempt(o.ok, time.Since(o.At.Std()))
	}
	return o
}

// send makes one request. One deadline bounds all of it. It ends early only after the
// drain: a request under way may have arrived, and an early end would send it twice.
func (d *Dispatcher) send(ep *Endpoint, e *buildcast.Event, try int) outcome {
	began := time.Now()
	o := d.request(ep, e, try, began)
	o.At, o.DurationMS = buildcast.TimeOf(began), time.Since(began).Milliseconds()
	return o
}

func (d *Dispatcher) request(ep *Endpoint, e *buildcast.Event, try int, at time.Time) (o outcome) {
	ctx, cancel := context.WithTimeout(d.attempts, time.Duration(ep.TimeoutMS)*time.Millisecond)
	defer cancel()
	req, err := request.New(ctx, request.Receiver{
		URL: ep.URL, Headers: ep.Values, Payload: ep.Payload, Secrets: ep.signers(at),
	}, e, try, at)
	if err != nil {
		o.Error = err.Error()
		return o
	}
	res, err := d.config.Client.Do(req)
	if err != nil {
		o.cancelled, o.Error = d.attempts.Err() != nil, outbound.Describe(err)
		return o
	}
	defer res.Body.Close()
	o.Status = res.StatusCode
	o.Response, err = read(res.Body)
	switch {
	case err != nil:
		o.cancelled, o.Error = d.attempts.Err() != nil, outbound.Describe(err)
	case res.StatusCode/100 == 2:
		o.ok = true
	case res.StatusCode/100 == 3:
		o.Error = "the receiver redirects, which is not followed: use the address that it redirects to"
	}
	o.gone = res.StatusCode == http.StatusGone
	o.retryAfter = retryAfter(res.Header.Get("Retry-After"), at)
	return o
}

// read reads an answer's body and returns the beginning. A body that is too long to
// read costs the connection, and is not an error.
func read(body io.Reader) (string, error) {
	kept, err := io.ReadAll(io.LimitReader(body, keptBody))
	if err == nil && len(kept) == keptBody {
		_, err = io.CopyN(io.Discard, body, readBody-keptBody)
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	text := strings.ToValidUTF8(string(kept), string(utf8.RuneError))
	return strings.ReplaceAll(text, "\x00", string(utf8.RuneError)), err // no database keeps a zero in text
}

// retryAfter reads the header's seconds or date.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		return time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// pingType is the type of the event that a test sends. No log has it.
const pingType = "ping"

// Ping sends the endpoint an event that is in no log, and reports whether it arrived.
func (d *Dispatcher) Ping(ep *Endpoint) (attempt buildcast.Attempt, ok bool) {
	now := time.Now()
	data, _ := json.Marshal(map[string]string{"message": "a test of this endpoint by buildcast", "endpointId": ep.ID})
	o := d.send(ep, &buildcast.Event{
		ID: now.UnixMilli(), BuildID: "ping", Type: pingType, Data: data, Timestamp: buildcast.TimeOf(now),
	}, 1)
	return o.Attempt, o.ok
}

func (n *sender) pinged() bool {
	_, ok := n.dispatcher.Ping(n.endpoint.Load())
	return ok
}
