package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// endsAt is a context that ends when it has been asked left times.
type endsAt struct {
	context.Context
	left  atomic.Int32
	ended chan struct{}
}

func (c *endsAt) asked() bool {
	n := c.left.Add(-1)
	if n == 0 {
		close(c.ended)
	}
	return n <= 0
}

func (c *endsAt) Done() <-chan struct{} { c.asked(); return c.ended }

func (c *endsAt) Err() error {
	if c.asked() {
		return context.Canceled
	}
	return nil
}

// If a claim is cancelled, at any moment, either it claims nothing or its caller gets
// the cursors.
func TestClaimThatIsCancelled(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "b.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	e := store.Endpoint{Endpoint: buildcast.Endpoint{ID: "e", URL: "https://a.example", Enabled: true, CreatedAt: buildcast.Now(), UpdatedAt: buildcast.Now()}, Sealed: []byte("p{}")}
	if _, err := s.SaveEndpoint(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	const builds = 300
	appends := make([]store.Append, builds)
	for i := range appends {
		appends[i] = store.Append{BuildID: fmt.Sprintf("b%d", i), Events: []buildcast.NewEvent{{Type: "x", Data: []byte("{}")}}}
	}
	if _, err := s.AppendEvents(t.Context(), appends); err != nil {
		t.Fatal(err)
	}
	for asks := int32(1); asks < 40; asks++ {
		ctx := &endsAt{Context: context.WithoutCancel(t.Context()), ended: make(chan struct{})}
		ctx.left.Store(asks)
		now := time.Now().Add(time.Minute)
		got, err := s.ClaimCursors(ctx, "n", "e", nil, now, now.Add(time.Hour), builds)
		rest, restErr := s.ClaimCursors(t.Context(), "other", "e", nil, now, now.Add(time.Hour), builds)
		if restErr != nil {
			t.Fatal(restErr)
		}
		if err != nil && len(rest) != builds || err == nil && (len(got) != builds || len(rest) != 0) {
			t.Fatalf("cancelled when asked %d times: %d claimed, error %v, %d left", asks, len(got), err, len(rest))
		}
		for _, owner := range []string{"n", "other"} {
			if err := s.ReleaseCursors(t.Context(), owner); err != nil {
				t.Fatal(err)
			}
		}
	}
}
