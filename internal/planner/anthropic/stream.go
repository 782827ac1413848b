package anthropic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/buildcast/buildcast/internal/planner"
)

// Why a stream is broken.
var (
	errCut  = errors.New("the stream ended before message_stop")
	errIdle = errors.New("the stream was silent for too long")
)

// attempt sends the request once and reads the answer. Usage is what is known of it,
// also with an error.
func (p *Planner) attempt(ctx context.Context, params request, progress func(planner.Progress)) (planner.Answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Silence is told by bytes, because pings count: each read winds the timer.
	timer := time.AfterFunc(p.idle, func() { cancel(errIdle) })
	defer timer.Stop()
	resp, err := p.send(ctx, http.MethodPost, "/v1/messages", params)
	if err != nil {
		return planner.Answer{}, idleOr(ctx, err)
	}
	defer resp.Body.Close()
	m := message{progress: progress, header: resp.Header}
	m.usage.RequestID = short(resp.Header.Get("Request-Id"))
	err = events(&watched{resp.Body, timer, p.idle}, m.take)
	answer := planner.Answer{Usage: m.usage}
	switch {
	case err != nil:
		return answer, idleOr(ctx, err)
	case m.stop != "tool_use":
		return answer, ended(m.stop, m.usage.RequestID, m.category, m.usage)
	case !json.Valid(m.input):
		return answer, &stopped{reason: "the model's answer is not JSON", requestID: m.usage.RequestID}
	}
	answer.Body = m.input
	return answer, nil
}

// idleOr returns errIdle if silence has ended the request.
func idleOr(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errIdle) {
		return errIdle
	}
	return err
}

// watched is a body whose reads wind the timer.
type watched struct {
	io.Reader
	timer *time.Timer
	idle  time.Duration
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if n > 0 {
		w.timer.Reset(w.idle)
	}
	return n, err
}

// message is put together from the events of a stream.
type message struct {
	progress func(planner.Progress)
	usage    planner.Usage
	header   http.Header
	stop     string
	category string // of a refusal
	tool     int64  // the index of the tool's block, from 1; 0: none
	input    []byte
	names    planner.Names
}

// take takes an event, and reports whether it is the last.
func (m *message) take(e *event) (over bool, err error) {
	switch e.Type {
	case "message_start":
		m.usage.Model = short(e.Message.Model)
		m.addUsage(e.Message.Usage)
		m.tell("The model reads the request")
	case "content_block_start":
		if e.ContentBlock.Type == "tool_use" && m.tool == 0 {
			m.tool = e.Index + 1
		}
	case "content_block_delta":
		return false, m.addDelta(e)
	case "message_delta":
		m.stop = e.Delta.StopReason
		if e.Delta.StopDetails != nil {
			m.category = e.Delta.StopDetails.Category
		}
		m.addUsage(e.Usage)
	case "error":
		return false, &apiError{http.StatusOK, e.Error.Type, e.Error.Message, m.usage.RequestID, m.header}
	}
	return e.Type == "message_stop", nil
}

func (m *message) addDelta(e *event) error {
	if e.Index+1 != m.tool || e.Delta.Type != "input_json_delta" {
		if e.Delta.Type == "thinking_delta" {
			m.tell("The model thinks")
		}
		return nil
	}
	if len(m.input)+len(e.Delta.PartialJSON) > planner.MaxAnswer {
		return &stopped{reason: fmt.Sprintf("the model's answer has more than %d bytes: ask for less", planner.MaxAnswer), requestID: m.usage.RequestID, final: true}
	}
	m.input = append(m.input, e.Delta.PartialJSON...)
	_, _ = m.names.Write([]byte(e.Delta.PartialJSON)) // it never fails
	m.tell("The model writes the plan")
	return nil
}

// bytesPerToken is about right for code. While an answer is written, the API does not
// tell its tokens.
const bytesPerToken = 3

func (m *message) tell(doing string) {
	m.progress(planner.Progress{
		Message: doing, Tasks: m.names.Tasks,
		OutputTokens: max(m.usage.OutputTokens, int64(len(m.input)/bytesPerToken)),
	})
}

func (m *message) addUsage(u usage) {
	for to, value := range map[*int64]*int64{
		&m.usage.InputTokens: u.Input, &m.usage.OutputTokens: u.Output,
		&m.usage.CacheReadTokens: u.CacheRead, &m.usage.CacheWriteTokens: u.CacheWrite,
	} {
		if value != nil {
			*to = *value
		}
	}
}
