package body

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

const (
	// An answer of more than largeAnswer bytes may not fit into the socket's
	// buffers, so a client that reads nothing would keep it in memory for ever.
	largeAnswer = 64 << 10
	// SendTimeout bounds how long a client takes such an answer, or a part of a longer one.
	SendTimeout = time.Minute
)

// Send writes a whole answer. The length lets gzip pass small ones by.
func Send(w http.ResponseWriter, status int, contentType string, text []byte) {
	if len(text) > largeAnswer {
		conn := http.NewResponseController(w)
		_ = conn.SetWriteDeadline(time.Now().Add(SendTimeout))
		defer func() { _ = conn.SetWriteDeadline(time.Time{}) }() // the next answer's time is its own
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// SendJSON writes v as a whole answer.
func SendJSON(w http.ResponseWriter, status int, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	Send(w, status, JSON, text)
	return nil
}
