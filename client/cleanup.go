package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"

	"github.com/buildcast/buildcast"
)

// Cleanup says what a server is to remove of old builds.
type Cleanup struct {
	// OlderThan is an age such as 7d or 36h. Empty: the server's own ages.
	OlderThan string `json:"olderThan,omitempty"`
	// Branch is a pattern such as build-*, with which it must begin. Empty: all builds.
	Branch string `json:"branch,omitempty"`
	DryRun bool   `json:"dryRun,omitempty"` // only count
}

// CleanupStep is how far the clean-up of one part has come. The last step of a part
// has Removed.
type CleanupStep struct {
	Part    string   `json:"part"` // such as previews
	Done    int      `json:"done,omitempty"`
	Total   int      `json:"total,omitempty"`
	Removed *Removed `json:"removed,omitempty"`
	Error   string   `json:"error,omitempty"` // why something could not be removed
}

// Removed counts what was removed, or would be.
type Removed struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes,omitempty"` // 0: not known
}

// Cleanup asks the server to remove what old builds left, and returns the steps as
// they come. The server ends the clean-up if the caller stops early.
func (c *Client) Cleanup(ctx context.Context, what Cleanup) iter.Seq2[CleanupStep, error] {
	return func(yield func(CleanupStep, error) bool) {
		resp, err := c.askCleanup(ctx, what)
		if err != nil {
			yield(CleanupStep{}, c.cleanupFailed(ctx, err))
			return
		}
		defer resp.Body.Close()
		for lines := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)); ; {
			var step CleanupStep
			err := lines.Decode(&step)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				err = c.cleanupFailed(ctx, err)
			}
			if !yield(step, err) || err != nil {
				return
			}
		}
	}
}

func (c *Client) askCleanup(ctx context.Context, what Cleanup) (*http.Response, error) {
	b, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	req, err := c.newRequest(ctx, http.MethodPost, c.base.JoinPath("api", "cleanup"), bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", jsonType)
	req.Header.Set("Accept", ndjsonType+", application/problem+json")
	resp, err := c.http.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, problemOf(resp)
	}
	return resp, err
}

func (c *Client) cleanupFailed(ctx context.Context, err error) error {
	switch {
	case isAnswer(err):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return buildcast.Errorf(buildcast.Unreachable, "%s cannot be reached", c.base.Host).Because(err)
}
