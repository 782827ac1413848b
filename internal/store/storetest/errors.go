package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// calls returns a call of each method that uses the database.
func calls(s store.Store) map[string]func(context.Context) error {
	now := time.Now()
	return map[string]func(context.Context) error{
		"AppendEvents": func(ctx context.Context) error {
			_, err := s.AppendEvents(ctx, []store.Append{{BuildID: "b", Events: many(1)}})
			return err
		},
		"ReadEvents":    func(ctx context.Context) error { _, err := s.ReadEvents(ctx, "b", 0, 1, 1); return err },
		"Statuses":      func(ctx context.Context) error { _, err := s.Statuses(ctx, []string{"b"}); return err },
		"Bounds":        func(ctx context.Context) error { _, err := s.Bounds(ctx, []string{"b"}); return err },
		"CreateBuild":   func(ctx context.Context) error { _, _, err := s.CreateBuild(ctx, store.NewBuild{ID: "n"}); return err },
		"GetBuild":      func(ctx context.Context) error { _, err := s.GetBuild(ctx, "b"); return err },
		"ListBuilds":    func(ctx context.Context) error { _, err := s.ListBuilds(ctx, store.Filter{Limit: 1}); return err },
		"DeleteBuild":   func(ctx context.Context) error { _, err := s.DeleteBuild(ctx, "b"); return err },
		"TruncateLog":   func(ctx context.Context) error { _, err := s.TruncateLog(ctx, "b", 2); return err },
		"FoldStart":     func(ctx context.Context) error { _, err := s.FoldStart(ctx, "b"); return err },
		"Purge":         func(ctx context.Context) error { _, err := s.Purge(ctx, 1); return err },
		"ClaimBuilds":   func(ctx context.Context) error { _, err := s.ClaimBuilds(ctx, "o", minute, 1, nil); return err },
		"RenewLease":    func(ctx context.Context) error { return s.RenewLease(ctx, store.Lease{BuildID: "b"}, minute) },
		"ReleaseLeases": func(ctx context.Context) error { return s.ReleaseLeases(ctx, "o") },
		"SaveEndpoint": func(ctx context.Context) error {
			_, err := s.SaveEndpoint(ctx, store.Endpoint{Endpoint: buildcast.Endpoint{ID: "e", CreatedAt: buildcast.Now()}, Sealed: []byte{1}})
			return err
		},
		"ListEndpoints":  func(ctx context.Context) error { _, err := s.ListEndpoints(ctx); return err },
		"DeleteEndpoint": func(ctx context.Context) error { return s.DeleteEndpoint(ctx, "e") },
		"ClaimCursors": func(ctx context.Context) error {
			_, err := s.ClaimCursors(ctx, "o", "e", nil, now, now.Add(minute), 1)
			return err
		},
		"RenewCursors":   func(ctx context.Context) error { return s.RenewCursors(ctx, "o", now, now.Add(minute)) },
		"ReleaseCursors": func(ctx context.Context) error { return s.ReleaseCursors(ctx, "o") },
		"MoveCursors":    func(ctx context.Context) error { _, err := s.MoveCursors(ctx, "o", []store.Move{{}}); return err },
		"Rewind":         func(ctx context.Context) error { return s.Rewind(ctx, "e", "b", 1) },
		"ClaimDeliveries": func(ctx context.Context) error {
			_, err := s.ClaimDeliveries(ctx, "o", "e", now, now.Add(minute), 1)
			return err
		},
		"SaveDelivery":     func(ctx context.Context) error { return s.SaveDelivery(ctx, "o", buildcast.Delivery{}) },
		"RecallDeliveries": func(ctx context.Context) error { return s.RecallDeliveries(ctx, "e", now) },
		"Redeliver": func(ctx context.Context) error {
			_, err := s.Redeliver(ctx, store.Redelivery{EndpointID: "e"}, now)
			return err
		},
		"ListDeliveries": func(ctx context.Context) error {
			_, err := s.ListDeliveries(ctx, store.DeliveryFilter{Limit: 1})
			return err
		},
		"PruneDeliveries": func(ctx context.Context) error { return s.PruneDeliveries(ctx, now) },
		"SaveCounts": func(ctx context.Context) error {
			return s.SaveCounts(ctx, []store.Counts{{Bucket: now, Numbers: []byte(`{}`)}})
		},
		"ReadCounts": func(ctx context.Context) error { _, err := s.ReadCounts(ctx, now); return err },
		"Waiting":    func(ctx context.Context) error { _, err := s.Waiting(ctx); return err },
		"Ping":       s.Ping,
	}
}

// wantAnswer fails unless err is a *buildcast.Error with the code.
func wantAnswer(t *testing.T, name string, err error, code buildcast.Code) {
	t.Helper()
	if e, ok := errors.AsType[*buildcast.Error](err); !ok || e.Code != code {
		t.Errorf("%s: %T %v, want code %s", name, err, err, code)
	}
}

// Every method returns the same code, with the context's cause, if the caller's
// context has ended.
func testContextEnded(t *testing.T, s store.Store) {
	add(t, s, "b", event(buildcast.BuildCompleted, `{}`))
	gone := errors.New("the caller has left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	past, cancelPast := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelPast()
	for name, call := range calls(s) {
		err := call(ctx)
		wantAnswer(t, name, err, buildcast.Unreachable)
		if !errors.Is(err, gone) || !buildcast.Temporary(err) {
			t.Errorf("%s: %v does not tell its cause", name, err)
		}
		err = call(past)
		wantAnswer(t, name, err, buildcast.Unreachable)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v does not tell its cause", name, err)
		}
	}
	wantIDs(t, log(t, s, "b"), 1, 1)
}

// A text that only some databases could keep is the caller's mistake.
func testUnusualTexts(t *testing.T, s store.Store) {
	for field, in := range map[string]store.NewBuild{
		"project":         {ID: "b", Project: "a\x00b"},
		"prompt":          {ID: "b", Prompt: "a\xffb"},
		"Idempotency-Key": {ID: "b", IdempotencyKey: "\x00"},
	} {
		_, created, err := s.CreateBuild(t.Context(), in)
		wantAnswer(t, field, err, buildcast.InvalidArgument)
		if e, ok := errors.AsType[*buildcast.Error](err); created || !ok || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
