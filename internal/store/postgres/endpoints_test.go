package postgres

import (
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// A process that does not know of an endpoint that another process has just created
// makes its cursors, even if it appends with one round trip.
func TestEndpointOfAnotherProcess(t *testing.T) {
	here, there := two(t)
	both := []store.Append{{BuildID: "b2", Events: step("")}, {BuildID: "b3", Events: step("")}}
	for range 2 {
		appendTo(t, here, store.Append{BuildID: "b1", Events: step("")})
		appendTo(t, here, both...)
	}
	if _, err := there.SaveEndpoint(t.Context(), store.Endpoint{Endpoint: buildcast.Endpoint{ID: "e", Enabled: true, CreatedAt: buildcast.Now()}, Sealed: []byte{}}); err != nil {
		t.Fatal(err)
	}
	appendTo(t, here, store.Append{BuildID: "b1", Events: step("")})
	appendTo(t, here, both...)
	now := time.Now().Add(time.Second)
	cursors, err := there.ClaimCursors(t.Context(), "n", "e", nil, now, now.Add(time.Minute), 10)
	if err != nil || len(cursors) != 3 {
		t.Fatalf("%d cursors, %v", len(cursors), err)
	}
	for _, c := range cursors {
		if c.Next != 3 {
			t.Errorf("%s begins at %d", c.BuildID, c.Next)
		}
	}
}
