package storetest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// goneAfter is a context of a caller who goes away when it has been looked at a
// number of times: each number is another moment of the same call.
type goneAfter struct {
	context.Context
	cancel context.CancelFunc
	looks  atomic.Int64
}

func (c *goneAfter) look() {
	if c.looks.Add(-1) == 0 {
		c.cancel()
	}
}

func (c *goneAfter) Done() <-chan struct{} { c.look(); return c.Context.Done() }
func (c *goneAfter) Err() error            { c.look(); return c.Context.Err() }

// Whatever becomes of a caller, an endpoint that is stored has cursors, and one
// that is not has none.
func testEndpointCancelled(t *testing.T, s store.Store) {
	for looks := range int64(25) {
		id := fmt.Sprint("e", looks)
		ctx := &goneAfter{}
		ctx.Context, ctx.cancel = context.WithCancel(t.Context())
		ctx.looks.Store(looks + 1)
		_, err := s.SaveEndpoint(ctx, store.Endpoint{Endpoint: buildcast.Endpoint{
			ID: id, Enabled: true, CreatedAt: buildcast.Now(), UpdatedAt: buildcast.Now(),
		}, Sealed: []byte{1}})
		ctx.cancel()
		all, listErr := s.ListEndpoints(t.Context())
		if listErr != nil {
			t.Fatal(listErr)
		}
		add(t, s, id, many(1)...)
		for _, e := range all {
			wantPlaces(t, fmt.Sprintf("%s, after save %d said %v", e.ID, looks, err), claimFor(t, s, "n", e.ID, id), id+":1")
			if t.Failed() {
				return
			}
		}
	}
}
