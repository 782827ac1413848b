package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
)

const (
	// answerTimeout bounds one request, beyond the time that the server is asked to wait.
	answerTimeout = 30 * time.Second
	// maxAnswer bounds an answer in bytes. The largest is a build with a plan of
	// 4 MiB, which may be longer in the server's encoding.
	maxAnswer = 32 << 20
	// maxConnections is how many idle connections to the server are kept.
	maxConnections = 32
)

// Client speaks to one buildcast server. See New.
type Client struct {
	base   *url.URL
	key    string
	http   *http.Client
	logger *slog.Logger
}

// Option changes how a Client works.
type Option func(*Client)

// APIKey is sent with each request; default: none. Over plain http the network can read it.
func APIKey(key string) Option { return func(c *Client) { c.key = key } }

// HTTPClient makes the requests, for a proxy, a socket or certificates of one's
// own. Its Timeout and CheckRedirect are not used: each call bounds its own
// time, and redirects are not followed.
func HTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// Logger is told by Emitter and Follow when they begin to retry (a warning, once
// in a row of failures) and when they get through again (info); default: nobody is.
func Logger(l *slog.Logger) Option { return func(c *Client) { c.logger = l } }

// New makes a client for the server at a URL such as https://builds.example.com
// or, behind a proxy, https://example.com/buildcast. It does not connect.
func New(server string, opts ...Option) (*Client, error) {
	base, err := url.Parse(server)
	switch {
	case err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Hostname() == "":
		return nil, invalid("server", "the server must be a URL such as http://127.0.0.1:8080")
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, invalid("server", "the server's URL must have no user, query or fragment: give the key as APIKey")
	}
	c := &Client{base: base, logger: slog.New(slog.DiscardHandler)}
	for _, o := range opts {
		o(c)
	}
	if strings.ContainsFunc(c.key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, invalid("apiKey", "the API key has characters that no key has: check for spaces and line breaks")
	}
	h := http.Client{Transport: transport()}
	if c.http != nil {
		h = *c.http
	}
	// A redirect would take the key elsewhere, and turn a POST into a GET.
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	h.Timeout = 0
	c.http = &h
	return c, nil
}

func transport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport // the program has put one of its own there
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost = maxConnections
	return t
}

// CloseIdleConnections lets go of connections that are not in use. They end by themselves after a while.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// request is one call of the API.
type request struct {
	method string
	path   string // below /api; its parts are valid build ids, which need no escaping
	query  url.Values
	header http.Header
	body   io.Reader
	// wait is how long the server may take before it begins to answer; negative: for ever.
	wait time.Duration
}

// do makes the request and reads the JSON answer into answer, if that is not nil.
func (c *Client) do(ctx context.Context, r request, answer any) error {
	limited := ctx
	if r.wait >= 0 {
		limit := r.wait + answerTimeout
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v: %w", limit, context.DeadlineExceeded))
		defer cancel()
	}
	err := c.exchange(limited, r, answer)
	switch {
	case err == nil || isAnswer(err):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx) // says who ended it; net/http's error does not
	case limited.Err() != nil:
		err = context.Cause(limited)
	}
	return buildcast.Errorf(buildcast.Unreachable, "%s cannot be reached", c.base.Host).Because(err)
}

func (c *Client) exchange(ctx context.Context, r request, answer any) error {
	target := c.base.JoinPath("api", r.path)
	target.RawQuery = r.query.Encode()
	req, err := c.newRequest(ctx, r.method, target, r.body)
	if err != nil {
		return err
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", jsonType+", application/problem+json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return problemOf(resp)
	}
	body, err := readAnswer(resp.Body, maxAnswer)
	if err != nil || answer == nil {
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return strange(c, "answered with something else than JSON of the right shape").Because(err)
	}
	return nil
}

// newRequest makes a request that says who asks.
func (c *Client) newRequest(ctx context.Context, method string, target *url.URL, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "buildcast-go")
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	return req, nil
}

const (
	jsonType   = "application/json"
	ndjsonType = "application/x-ndjson"
)

// readAnswer reads all of it, so that the connection can be used again.
func readAnswer(body io.Reader, limit int64) ([]byte, error) {
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if n > limit {
		return nil, buildcast.Errorf(buildcast.Internal, "the answer is longer than %d bytes", limit)
	}
	return b.Bytes(), nil
}

// strange is an answer that no buildcast server gives.
func strange(c *Client, what string) *buildcast.Error {
	return buildcast.Errorf(buildcast.Internal, "%s %s: is it a buildcast server?", c.base.Redacted(), what)
}

func isAnswer(err error) bool {
	_, ok := errors.AsType[*buildcast.Error](err)
	return ok
}

func invalid(field, message string) error {
	return buildcast.Errorf(buildcast.InvalidArgument, "%s", message).At(field)
}
