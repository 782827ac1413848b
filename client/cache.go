package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
)

// pruneTimeout is more than removing may take.
const pruneTimeout = 5 * time.Minute

// Cache returns what the server's cache has: the limit entries that were used last,
// and the size of all. Like all that is about the cache, it needs an API key if the
// server has keys.
func (c *Client) Cache(ctx context.Context, limit int) (buildcast.CacheUsage, error) {
	var u buildcast.CacheUsage
	return u, c.do(ctx, request{method: http.MethodGet, path: "cache", query: url.Values{"limit": {strconv.Itoa(limit)}}}, &u)
}

// WhyCached says why the task of the build was taken from the cache, or ran. task may
// be install or build. NotFound.
func (c *Client) WhyCached(ctx context.Context, buildID, task string) (buildcast.CacheReason, error) {
	var r buildcast.CacheReason
	return r, c.do(ctx, request{method: http.MethodGet, path: "cache/why", query: url.Values{"build": {buildID}, "task": {task}}}, &r)
}

// PruneCache removes what the cache has not used for so long; 0 removes everything.
func (c *Client) PruneCache(ctx context.Context, age time.Duration) (buildcast.CachePruned, error) {
	var p buildcast.CachePruned
	body := strings.NewReader(fmt.Sprintf(`{"olderThanSeconds":%d}`, age/time.Second))
	return p, c.do(ctx, request{
		method: http.MethodPost, path: "cache/prune", header: http.Header{"Content-Type": {jsonType}}, body: body, wait: pruneTimeout,
	}, &p)
}
