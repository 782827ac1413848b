// Package anthropictest is Anthropic's Messages API for tests: a server on loopback
// that streams what a test tells it to, and fails in the ways that the real one has.
package anthropictest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Key is the API key that the server accepts.
const Key = "sk-ant-test-0123456789abcdef"

// Call is one request to /v1/messages.
type Call struct {
	N       int    // from 1
	Purpose string // the name of the tool: plan or files
	Prompt  string // all text of the message
	Body    []byte
	Header  http.Header
}

// Reply is how the server answers a call. The zero value answers with an empty tool
// call.
type Reply struct {
	// Status other than 0 and 200 is an error with this Type and Message.
	Status        int
	Type, Message string
	Header        map[string]string

	Input string // of the tool, streamed in small pieces
	Stop  string // stop_reason; empty: tool_use
	// Category is that of a refusal.
	Category string
	// CutAfter cuts the connection after so many pieces; ErrorAfter sends an event of the
	// Type instead. 0: not.
	CutAfter, ErrorAfter int
	// Before is called before each piece, with its number from 1, and with 0 before
	// message_stop. It may block: the stream is then held open.
	Before func(piece int)
	// Pings are sent before the first piece; Thinking is a block before the tool's.
	Pings    int
	Thinking bool
	// Usage; 0: 100 and 50.
	InputTokens, OutputTokens int
}

// Server is a running server.
type Server struct {
	*httptest.Server
	answer func(Call) Reply

	mu    sync.Mutex
	calls []Call
	paid  []Call // those whose answer was sent whole
}

// New starts a server that answers calls. It ends with the test.
func New(t testing.TB, answer func(Call) Reply) *Server {
	s := &Server{answer: answer}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/messages", s.messages)
	mux.HandleFunc("GET /v1/models", s.models)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// Calls returns the requests so far.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Call(nil), s.calls...)
}

// Paid returns the requests whose answers were sent whole.
func (s *Server) Paid() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Call(nil), s.paid...)
}

func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"data":[{"id":"claude-opus-5-5","type":"model"},{"id":"claude-sonnet-5-5","type":"model"}],"has_more":false}`)
}

func (s *Server) messages(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var req struct {
		Stream   bool
		Messages []struct {
			Content []struct{ Text string }
		}
		ToolChoice struct{ Name string } `json:"tool_choice"`
	}
	if err := json.Unmarshal(body, &req); err != nil || !req.Stream || req.ToolChoice.Name == "" {
		fail(w, http.StatusBadRequest, "invalid_request_error", "the fake takes streams with a forced tool")
		return
	}
	if problem := Refuse(body); problem != "" {
		fail(w, http.StatusBadRequest, "invalid_request_error", problem)
		return
	}
	if r.Header.Get("X-Api-Key") != Key {
		fail(w, http.StatusUnauthorized, "authentication_error", "invalid x-api-key")
		return
	}
	call := Call{Purpose: req.ToolChoice.Name, Body: body, Header: r.Header.Clone()}
	for _, m := range req.Messages {
		for _, c := range m.Content {
			call.Prompt += c.Text
		}
	}
	s.mu.Lock()
	call.N = len(s.calls) + 1
	s.calls = append(s.calls, call)
	s.mu.Unlock()
	w.Header().Set("Request-Id", fmt.Sprintf("req_%d", call.N))
	reply := s.answer(call)
	for name, value := range reply.Header {
		w.Header().Set(name, value)
	}
	if reply.Status != 0 && reply.Status != http.StatusOK {
		fail(w, reply.Status, reply.Type, reply.Message)
		return
	}
	if stream(w, call, reply) {
		s.mu.Lock()
		s.paid = append(s.paid, call)
		s.mu.Unlock()
	}
}

// Refuse tells what the API would not take in a request's body: models of today refuse
// it. Empty: nothing.
func Refuse(body []byte) string {
	var req map[string]json.RawMessage
	if json.Unmarshal(body, &req) != nil {
		return "not an object"
	}
	for _, name := range []string{"temperature", "top_p", "top_k", "output_format"} {
		if _, ok := req[name]; ok {
			return name + " is not supported"
		}
	}
	var messages []struct{ Role string }
	if json.Unmarshal(req["messages"], &messages) != nil || len(messages) == 0 || messages[len(messages)-1].Role != "user" {
		return "the conversation must end with a user message"
	}
	return ""
}

func fail(w http.ResponseWriter, status int, typ, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"error","error":{"type":%q,"message":%q},"request_id":%q}`, typ, message, w.Header().Get("Request-Id"))
}

// stream sends the events, and reports whether it sent them all.
func stream(w http.ResponseWriter, call Call, r Reply) bool {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	out := http.NewResponseController(w)
	send := func(typ, data string) {
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", typ, data)
		_ = out.Flush()
	}
	in, outTokens := r.InputTokens, r.OutputTokens
	if in == 0 {
		in = 100
	}
	if outTokens == 0 {
		outTokens = 50
	}
	send("message_start", fmt.Sprintf(`{"type":"message_start","message":{"id":"msg_%d","type":"message","role":"assistant","model":"claude-sonnet-5-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":%d,"cache_creation_input_tokens":0,"cache_read_input_tokens":7,"output_tokens":1}}}`, call.N, in))
	for range r.Pings {
		send("ping", `{"type":"ping"}`)
	}
	block := 0
	if r.Thinking {
		send("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`)
		send("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":""}}`)
		send("content_block_stop", `{"type":"content_block_stop","index":0}`)
		block = 1
	}
	send("content_block_start", fmt.Sprintf(`{"type":"content_block_start","index":%d,"content_block":{"type":"tool_use","id":"toolu_1","name":%q,"input":{}}}`, block, call.Purpose))
	for i, piece := range append([]string{""}, pieces(r.Input)...) {
		if r.Before != nil {
			r.Before(i + 1)
		}
		if r.CutAfter > 0 && i >= r.CutAfter {
			if conn, _, err := out.Hijack(); err == nil {
				conn.Close()
			}
			return false
		}
		if r.ErrorAfter > 0 && i >= r.ErrorAfter {
			send("error", fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":%q}}`, r.Type, r.Message))
			return false
		}
		text, _ := json.Marshal(piece)
		send("content_block_delta", fmt.Sprintf(`{"type":"content_block_delta","index":%d,"delta":{"type":"input_json_delta","partial_json":%s}}`, block, text))
	}
	send("content_block_stop", fmt.Sprintf(`{"type":"content_block_stop","index":%d}`, block))
	stop, details := r.Stop, "null"
	if stop == "" {
		stop = "tool_use"
	}
	if stop == "refusal" {
		details = fmt.Sprintf(`{"type":"refusal","category":%q,"explanation":null}`, r.Category)
	}
	if r.Before != nil {
		r.Before(0)
	}
	send("message_delta", fmt.Sprintf(`{"type":"message_delta","delta":{"stop_reason":%q,"stop_sequence":null,"stop_details":%s},"usage":{"output_tokens":%d}}`, stop, details, outTokens))
	send("message_stop", `{"type":"message_stop"}`)
	return true
}

// pieces cuts the text into pieces that end anywhere, also within an escape.
func pieces(text string) (all []string) {
	const size = 17
	for len(text) > size {
		at := size
		for at < len(text) && text[at]&0xc0 == 0x80 { // the real one keeps characters whole
			at++
		}
		all = append(all, text[:at])
		text = text[at:]
	}
	return append(all, text)
}

// Plan returns the input of the tool plan: a plan of these tasks, each of which has
// its files written by the planner.
func Plan(tasks ...string) string {
	var list []string
	for _, name := range tasks {
		list = append(list, fmt.Sprintf(`{"name":%q,"prompt":"Write the files of %s."}`, name, name))
	}
	return `{"name":"Bakery","tasks":[` + strings.Join(list, ",") + `]}`
}

// Files returns the input of the tool files: paths and contents in turn.
func Files(pairs ...string) string {
	type file struct {
		Path    string `json:"path"`
		Content string `json:"content"`
	}
	files := []file{}
	for i := 0; i+1 < len(pairs); i += 2 {
		files = append(files, file{pairs[i], pairs[i+1]})
	}
	b, _ := json.Marshal(map[string]any{"files": files})
	return string(b)
}
