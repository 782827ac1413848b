package webhook

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
	readBody = 64 << 10 // that are read, so that the connection can be used again
)

// outcome is what became of an attempt.
type outcome struct {
	buildcast.Attempt
	ok         bool // 2xx, and the whole of the answer arrived
	cancelled  bool // the service stops: it says nothing of the receiver
	gone       bool // 410: the receiver wants no more
	retryAfter time.Duration
}

// attempt sends the event once, for the try-th time. One deadline bounds all of
// it. It ends early only when the service has stopped for good: a request that is
// under way may have arrived, and is not sent twice for nothing.
func (n *sender) attempt(t *target, e *buildcast.Event, try int) outcome {
	began := time.Now()
	o := n.send(t, e, try, began)
	o.At, o.DurationMS = buildcast.TimeOf(began), time.Since(began).Milliseconds()
	if !o.cancelled {
		n.counts.attempt(o.ok, time.Since(began))
	}
	return o
}

func (s *Service) send(t *target, e *buildcast.Event, try int, at time.Time) (o outcome) {
	ctx, cancel := context.WithTimeout(s.attempts, time.Duration(t.TimeoutMS)*time.Millisecond)
	defer cancel()
	req, err := request.New(ctx, request.Receiver{
		URL: t.URL, Headers: t.Values, Payload: t.Payload, Secrets: t.signers(at),
	}, e, try, at)
	if err != nil {
		o.Error = err.Error()
		return o
	}
	res, err := s.Client.Do(req)
	if err != nil {
		o.cancelled, o.Error = s.attempts.Err() != nil, outbound.Describe(err)
		return o
	}
	defer res.Body.Close()
	o.Status = res.StatusCode
	o.Response, err = read(res.Body)
	switch {
	case err != nil:
		o.cancelled, o.Error = s.attempts.Err() != nil, outbound.Describe(err)
	case res.StatusCode/100 == 2:
		o.ok = true
	case res.StatusCode/100 == 3:
		o.Error = "the receiver redirects, which is not followed: use the address that it redirects to"
	}
	o.gone = res.StatusCode == http.StatusGone
	o.retryAfter = retryAfter(res.Header.Get("Retry-After"), at)
	return o
}

// read reads an answer's body and gives the beginning. A body that is too long to
// read is no error, and costs the connection.
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

// ping sends an event that is in no log.
func (s *Service) ping(t *target) outcome {
	began := time.Now()
	data, _ := json.Marshal(map[string]string{"message": "a test of this endpoint by buildcast", "endpointId": t.ID})
	o := s.send(t, &buildcast.Event{
		ID: began.UnixMilli(), BuildID: "ping", Type: pingType, Data: data, Timestamp: buildcast.TimeOf(began),
	}, 1, began)
	o.At, o.DurationMS = buildcast.TimeOf(began), time.Since(began).Milliseconds()
	return o
}
