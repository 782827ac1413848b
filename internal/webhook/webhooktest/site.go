package webhooktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/webhooksig"
)

// SecretText is the secret of endpoints that are given none.
const SecretText = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // of tests

// Site is a receiver. It is a sync.Locker for what its answers share.
type Site struct {
	sync.Mutex
	requests []Received
	answer   Answer
}

// Answer is what a receiver does with a request. It may wait on the context.
type Answer func(context.Context, Received) (*http.Response, error)

// Received is a request as a receiver sees it.
type Received struct {
	buildcast.WebhookPayload
	MessageID string
	Try       int
	At        time.Time
	Header    http.Header
	Body      []byte
}

// Site makes an endpoint at a host of its own, and the receiver. The receiver
// answers 200 until Set says otherwise.
func (w *World) Site(change buildcast.EndpointChange) (*Site, buildcast.Endpoint) {
	w.Helper()
	s := &Site{}
	host := fmt.Sprintf("site%d.example", len(w.Sites))
	w.Sites[host] = s
	url := "https://" + host + "/hook"
	change.URL = &url
	if change.Secret == nil {
		change.Secret = new(SecretText)
	}
	e, err := w.Create(w.Context(), change)
	if err != nil {
		w.Fatal(err)
	}
	return s, e
}

func (s *Site) receive(ctx context.Context, r Received) (*http.Response, error) {
	s.Lock()
	s.requests = append(s.requests, r)
	answer := s.answer
	s.Unlock()
	if answer == nil {
		return Respond(200), nil
	}
	return answer(ctx, r)
}

// Set changes what the receiver does; nil: it answers 200.
func (s *Site) Set(answer Answer) {
	s.Lock()
	defer s.Unlock()
	s.answer = answer
}

// All returns the requests so far.
func (s *Site) All() []Received {
	s.Lock()
	defer s.Unlock()
	return slices.Clone(s.requests)
}

// Of returns the requests for one event.
func (s *Site) Of(build string, id int64) []Received {
	return slices.DeleteFunc(s.All(), func(r Received) bool { return r.BuildID != build || r.ID != id })
}

// IDs returns the ids that came of a build, in order of arrival.
func (s *Site) IDs(build string) (ids []int64) {
	for _, r := range s.All() {
		if r.BuildID == build {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// Respond makes an answer. headers are names and values in turn.
func Respond(status int, headers ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader("said " + strconv.Itoa(status)))}
}

// Always answers with one status.
func Always(status int) Answer {
	return func(context.Context, Received) (*http.Response, error) { return Respond(status), nil }
}

// Refuse is a receiver that is not there.
func Refuse(context.Context, Received) (*http.Response, error) {
	return nil, errors.New("connection refused")
}

// UpTo returns the ids from 1 to n.
func UpTo(n int) []int64 {
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = int64(i + 1)
	}
	return ids
}

// Signed returns nil if the request verifies with the secret.
func Signed(r Received, text string) error {
	secret, err := webhooksig.ParseSecret(text)
	if err != nil {
		return err
	}
	return webhooksig.Verifier{Secrets: []webhooksig.Secret{secret}, Now: func() time.Time { return r.At }}.Verify(r.Header, r.Body)
}
