package anthropic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/buildcast/buildcast/internal/planner"
)

// Why a stream is broken.
var (
	errCut  = errors.New("the stream ended before message_stop")
	errIdle = errors.New("the stream was silent for too long")
)

// attempt sends the request once and reads the answer. Usage is what is known of it,
// also with an error.
func (p *Planner) attempt(ctx context.Context, params sdk.MessageNewParams, progress func(planner.Progress)) (planner.Answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var response *http.Response
	events := p.client.Messages.NewStreaming(withIdle(ctx, cancel), params, option.WithResponseInto(&response))
	defer events.Close()
	m := message{progress: progress}
	if response != nil {
		m.usage.RequestID = short(response.Header.Get("Request-Id"))
	}
	for !m.over && events.Next() {
		if err := m.take(events.Current()); err != nil {
			return planner.Answer{Usage: m.usage}, err
		}
	}
	answer := planner.Answer{Usage: m.usage}
	switch err := events.Err(); {
	case errors.Is(context.Cause(ctx), errIdle):
		return answer, errIdle
	case err != nil && m.begun && !isAPI(err):
		return answer, fmt.Errorf("%w: %w", errCut, err)
	case err != nil:
		return answer, err
	case !m.over:
		return answer, errCut
	case m.stop != "tool_use":
		return answer, ended(m.stop, m.usage.RequestID, m.category, m.usage)
	case !json.Valid(m.input):
		return answer, &stopped{reason: "the model's answer is not JSON", requestID: m.usage.RequestID}
	}
	answer.Body = m.input
	return answer, nil
}

func isAPI(err error) bool {
	var api *sdk.Error
	return errors.As(err, &api)
}

// message is put together from the events of a stream.
type message struct {
	progress func(planner.Progress)
	usage    planner.Usage
	begun    bool
	over     bool // message_stop
	stop     string
	category string // of a refusal
	tool     int64  // the index of the tool's block, from 1; 0: none
	input    []byte
	names    planner.Names
}

func (m *message) take(e sdk.MessageStreamEventUnion) error {
	switch e.Type {
	case "message_start":
		m.begun = true
		u := e.Message.Usage
		m.usage.Model = short(e.Message.Model)
		m.usage.InputTokens, m.usage.OutputTokens = u.InputTokens, u.OutputTokens
		m.usage.CacheReadTokens, m.usage.CacheWriteTokens = u.CacheReadInputTokens, u.CacheCreationInputTokens
		m.tell("The model reads the request")
	case "content_block_start":
		if e.ContentBlock.Type == "tool_use" && m.tool == 0 {
			m.tool = e.Index + 1
		}
	case "content_block_delta":
		return m.addDelta(e)
	case "message_delta":
		m.stop, m.category = string(e.Delta.StopReason), string(e.Delta.StopDetails.Category)
		m.addUsage(e.Usage)
	case "message_stop":
		m.over = true
	}
	return nil
}

func (m *message) addDelta(e sdk.MessageStreamEventUnion) error {
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

// addUsage takes what a message_delta has: its numbers are sums, and those that are
// absent stay as they are.
func (m *message) addUsage(u sdk.MessageDeltaUsage) {
	for _, n := range []struct {
		present bool
		to      *int64
		value   int64
	}{
		{u.JSON.InputTokens.Valid(), &m.usage.InputTokens, u.InputTokens},
		{u.JSON.OutputTokens.Valid(), &m.usage.OutputTokens, u.OutputTokens},
		{u.JSON.CacheReadInputTokens.Valid(), &m.usage.CacheReadTokens, u.CacheReadInputTokens},
		{u.JSON.CacheCreationInputTokens.Valid(), &m.usage.CacheWriteTokens, u.CacheCreationInputTokens},
	} {
		if n.present {
			*n.to = n.value
		}
	}
}

// The SDK drops pings before anybody sees them, so silence is told by bytes: a
// middleware wraps the body, and each read winds the timer of the request's context.

type idleKey struct{}

func withIdle(ctx context.Context, cancel context.CancelCauseFunc) context.Context {
	return context.WithValue(ctx, idleKey{}, cancel)
}

// watchIdle cancels a request of attempt if nothing comes for too long.
func (p *Planner) watchIdle(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
	cancel, ok := r.Context().Value(idleKey{}).(context.CancelCauseFunc)
	if !ok {
		return next(r)
	}
	timer := time.AfterFunc(p.idle, func() { cancel(errIdle) })
	response, err := next(r)
	if err != nil || response.Body == nil {
		timer.Stop()
		return response, err
	}
	timer.Reset(p.idle)
	response.Body = &watched{ReadCloser: response.Body, timer: timer, idle: p.idle}
	return response, nil
}

type watched struct {
	io.ReadCloser
	idle  time.Duration
	mu    sync.Mutex
	timer *time.Timer
	done  bool
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.ReadCloser.Read(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.done:
	case err != nil:
		w.done = true
		w.timer.Stop()
	case n > 0:
		w.timer.Reset(w.idle)
	}
	return n, err
}

func (w *watched) Close() error {
	w.mu.Lock()
	w.done = true
	w.timer.Stop()
	w.mu.Unlock()
	return w.ReadCloser.Close()
}
