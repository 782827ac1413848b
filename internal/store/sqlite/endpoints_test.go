package sqlite

import (
	"context"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// A caller goes when its endpoint has been stored and appends do not know of it
// yet: they come to know.
func TestEndpointWhoseCallerGoes(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "b.db"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.following.Lock()
	done := make(chan error, 1)
	go func() {
		_, err := s.SaveEndpoint(ctx, store.Endpoint{Endpoint: buildcast.Endpoint{ID: "e", Enabled: true, CreatedAt: buildcast.Now(), UpdatedAt: buildcast.Now()}, Sealed: []byte("x")})
		done <- err
	}()
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		all, err := s.ListEndpoints(t.Context())
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("it is not stored: %v", err)
		}
		if len(all) == 1 {
			break
		}
	}
	cancel()
	s.following.Unlock()
	if err := <-done; err != nil || len(*s.followers.Load()) != 1 {
		t.Errorf("%v, %d endpoints are known", err, len(*s.followers.Load()))
	}
}
