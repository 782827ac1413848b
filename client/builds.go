package client

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/buildcast/buildcast"
)

// CreateBuild says what to build.
type CreateBuild struct {
	ID      string `json:"id,omitempty"` // empty: the server makes one
	Project string `json:"project,omitempty"`
	// Prompt is for a server that has a planner; not together with Plan.
	Prompt string `json:"prompt,omitempty"`
	// Plan is what the server runs. With neither prompt nor plan the build is an
	// external one: others run it and report its events.
	Plan   *buildcast.Plan `json:"plan,omitempty"`
	Deploy string          `json:"deploy,omitempty"` // the target; empty: the plan's own
	// Planner and NoCache are for builds that the server runs. A repetition of another
	// build is not created here.
	buildcast.Options
	// IdempotencyKey makes it safe to call again without an ID.
	IdempotencyKey string `json:"-"`
}

// CreateBuild creates the build and queues it if it has a plan or a prompt. The same
// call again, with an ID or an IdempotencyKey, returns the build that exists.
// Errors: InvalidArgument, TooLarge, NoPlanner; Conflict where a build with this
// id or key is there that was asked for in other words.
func (c *Client) CreateBuild(ctx context.Context, b CreateBuild) (buildcast.Build, error) {
	if b.ID != "" {
		if err := buildcast.ValidateBuildID(b.ID); err != nil {
			return buildcast.Build{}, err
		}
	}
	return c.create(ctx, "builds", b.IdempotencyKey, b)
}

// Retry says how a finished build is repeated.
type Retry struct {
	// From is buildcast.RetryFailed, which takes over what was completed, or
	// buildcast.RetryStart; empty means RetryFailed.
	From string `json:"from,omitempty"`
	// IdempotencyKey makes it safe to call again.
	IdempotencyKey string `json:"-"`
}

// Retry queues a new build that repeats a finished one, and returns the new build.
// Errors: InvalidArgument if the build is external; NotFound, NotFinished; Conflict if
// the idempotency key has made another build.
func (c *Client) Retry(ctx context.Context, id string, r Retry) (buildcast.Build, error) {
	if err := buildcast.ValidateBuildID(id); err != nil {
		return buildcast.Build{}, err
	}
	return c.create(ctx, "builds/"+id+"/retry", r.IdempotencyKey, r)
}

// create posts what makes a build.
func (c *Client) create(ctx context.Context, path, key string, asked any) (build buildcast.Build, err error) {
	var body bytes.Buffer
	if err := encoder(&body).Encode(asked); err != nil {
		return build, err
	}
	header := http.Header{"Content-Type": {jsonType}}
	if key != "" {
		header.Set("Idempotency-Key", key)
	}
	err = c.do(ctx, request{method: http.MethodPost, path: path, header: header, body: &body}, &build)
	return build, err
}

// encoder leaves <, > and & as they are: escaped, data at the limit would be beyond it.
func encoder(b *bytes.Buffer) *json.Encoder {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	return e
}

// Build returns the build: what was asked for, and its status. NotFound.
func (c *Client) Build(ctx context.Context, id string) (buildcast.Build, error) {
	var b buildcast.Build
	return b, c.onBuild(ctx, http.MethodGet, id, "", &b)
}

// Status returns where the build stands. NotFound.
func (c *Client) Status(ctx context.Context, id string) (buildcast.Status, error) {
	var s buildcast.Status
	return s, c.onBuild(ctx, http.MethodGet, id, "/status", &s)
}

// Cancel ends the build, and returns its status after that. A finished build stays as it is. NotFound.
func (c *Client) Cancel(ctx context.Context, id string) (buildcast.Status, error) {
	var s buildcast.Status
	return s, c.onBuild(ctx, http.MethodPost, id, "/cancel", &s)
}

// Delete removes a finished build and its log. NotFound, NotFinished.
func (c *Client) Delete(ctx context.Context, id string) error {
	return c.onBuild(ctx, http.MethodDelete, id, "", nil)
}

func (c *Client) onBuild(ctx context.Context, method, id, below string, answer any) error {
	if err := buildcast.ValidateBuildID(id); err != nil {
		return err
	}
	return c.do(ctx, request{method: method, path: "builds/" + id + below}, answer)
}

// Filter selects builds. The zero value is the first page of all.
type Filter struct {
	Phase   buildcast.Phase // empty: any
	Project string          // empty: any
	Before  string          // the Next of the page before; empty: the first page
	Limit   int             // of one page; 0: the server's own
}

// Page is one page of builds, the newest first.
type Page struct {
	Builds []buildcast.Status `json:"builds"`
	Next   string             `json:"next"` // the next page's Before; empty: this was the last
}

// Builds lists builds, page by page.
func (c *Client) Builds(ctx context.Context, f Filter) (Page, error) {
	q := url.Values{}
	set(q, "status", string(f.Phase))
	set(q, "project", f.Project)
	set(q, "before", f.Before)
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	var p Page
	err := c.do(ctx, request{method: http.MethodGet, path: "builds", query: q}, &p)
	return p, err
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}
