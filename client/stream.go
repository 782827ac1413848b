package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/buildcast/buildcast"
)

const (
	// firstByte is how long a stream may take to begin. The server sends something
	// at once: what is silent for longer is held back on the way.
	firstByte = 5 * time.Second
	// stall is how long a stream that has begun may be silent. The server sends a
	// heartbeat every 15 s.
	stall = 40 * time.Second

	streamType = "text/event-stream"
	streamRead = 32 << 10 // bytes that are read at once, at most
)

var (
	// errOver says that the server has sent all there is of a finished build.
	errOver   = errors.New("the stream is over")
	errEnded  = errors.New("the server ended the stream before the build was over")
	errSilent = errors.New("nothing comes on the stream")
	// errDefect is in the chain of what may come again in the next stream.
	errDefect  = errors.New("the stream is not as it should be")
	errMissing = fmt.Errorf("%w: an event is left out", errDefect)
)

// stream is one connection with server-sent events of one build. It belongs to
// one goroutine, which reads it and closes it.
type stream struct {
	buildID string
	first   int64 // the first event that the log keeps; 0: the server has not said it
	last    int64 // the id of the last event that it gave, or that it began after
	began   time.Time
	alive   bool // something has come
	gave    bool // an event has come

	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	silent *time.Timer // ends ctx
	body   io.ReadCloser
	parser parser
	buf    []byte
}

// stream asks for the events after a cursor as they come. errOver: there is
// none, and none will come.
func (c *Client) stream(ctx context.Context, buildID string, after int64) (*stream, error) {
	if err := buildcast.ValidateBuildID(buildID); err != nil {
		return nil, err
	}
	s := &stream{buildID: buildID, last: after, began: time.Now()}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.silent = time.AfterFunc(firstByte, func() { s.cancel(errSilent) })
	err := s.open(c)
	if err != nil {
		err = s.cause(err)
		s.close()
		return nil, err
	}
	s.buf = make([]byte, streamRead)
	return s, nil
}

func (s *stream) open(c *Client) error {
	req, err := c.newRequest(s.ctx, http.MethodGet, c.base.JoinPath("events", s.buildID), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", streamType)
	req.Header.Set("Cache-Control", "no-cache")
	if s.last > 0 {
		req.Header.Set("Last-Event-ID", strconv.FormatInt(s.last, 10))
	}
	resp, err := c.http.Do(req) //nolint:bodyclose // stream.close does
	if err != nil {
		return err
	}
	s.body = resp.Body
	switch kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); {
	case resp.StatusCode == http.StatusNoContent:
		return errOver
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return problemOf(resp)
	case kind != streamType:
		return &noStream{kind}
	}
	return nil
}

// noStream is an answer of another content type.
type noStream struct{ kind string }

func (e *noStream) Error() string {
	return fmt.Sprintf("the answer is of type %.40q, no stream", e.kind)
}

// next waits for events and returns those that have come together: they follow on
// each other, and on those before. After an error, which may come with the last
// events, nothing is left to read.
func (s *stream) next() (events []buildcast.Event, err error) {
	for len(events) == 0 && err == nil {
		if s.alive {
			s.silent.Reset(stall)
		}
		n, readErr := s.body.Read(s.buf)
		// The time that the caller takes for the events is not the stream's silence.
		s.silent.Stop()
		s.alive = s.alive || n > 0
		messages, parseErr := s.parser.feed(s.buf[:n])
		if events, err = s.events(messages); err != nil {
			break
		}
		switch {
		case parseErr != nil:
			err = parseErr
		case readErr == io.EOF:
			err = errEnded
		case readErr != nil:
			err = s.cause(readErr)
		}
	}
	s.gave = s.gave || len(events) > 0
	return events, err
}

// events takes what the messages hold, each event once. errOver at the message
// that says so, errMissing before a gap.
func (s *stream) events(messages []message) (events []buildcast.Event, err error) {
	for _, m := range messages {
		switch m.event {
		case "end":
			return events, errOver
		case "begin":
			if err := s.begin(m.data); err != nil {
				return events, err
			}
			continue
		case "", "message":
		default:
			continue // of a kind that a later server knows
		}
		var e buildcast.Event
		if err := json.Unmarshal(m.data, &e); err != nil {
			return events, fmt.Errorf("%w: something in it is not an event: %w", errDefect, err)
		}
		if e.BuildID != s.buildID || e.ID > s.last+1 {
			return events, errMissing
		}
		if e.ID == s.last+1 {
			events, s.last = append(events, e), e.ID
		}
	}
	return events, nil
}

// begin takes where the stream begins. A cursor of 0 begins with the first event
// that is kept.
func (s *stream) begin(data []byte) error {
	var b struct {
		After        int64 `json:"after"`
		FirstEventID int64 `json:"firstEventId"`
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return fmt.Errorf("%w: its beginning cannot be read: %w", errDefect, err)
	}
	if s.first = b.FirstEventID; s.last == 0 {
		s.last = b.After
	}
	return nil
}

// cause is why the stream broke, if this side did it: net/http's error does not say.
func (s *stream) cause(err error) error {
	if s.ctx.Err() != nil && !isAnswer(err) && !errors.Is(err, errOver) {
		return context.Cause(s.ctx)
	}
	return err
}

func (s *stream) close() {
	s.silent.Stop()
	s.cancel(nil)
	if s.body != nil {
		s.body.Close()
	}
}
