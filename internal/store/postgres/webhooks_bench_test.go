package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
)

// BenchmarkAppendFollowed measures what endpoints cost an append, if their cursors
// exist, and if it must create them because they were parked.
func BenchmarkAppendFollowed(b *testing.B) {
	for _, endpoints := range []int{0, 1, 10} {
		for _, parked := range []bool{false, true} {
			if parked && endpoints == 0 {
				continue
			}
			b.Run(fmt.Sprintf("%d endpoints, parked %v", endpoints, parked), func(b *testing.B) {
				s := open(b, pgtest.URL(b))
				for i := range endpoints {
					saveEndpoint(b, s, fmt.Sprint("e", i))
				}
				one := []store.Append{{BuildID: "b", Events: step("")}}
				for b.Loop() {
					if _, err := s.AppendEvents(b.Context(), one); err != nil {
						b.Fatal(err)
					}
					if parked {
						b.StopTimer()
						if _, err := s.pool.Exec(b.Context(), `DELETE FROM webhook_cursors`); err != nil {
							b.Fatal(err)
						}
						b.StartTimer()
					}
				}
			})
		}
	}
}

// BenchmarkMoveCursors moves cursors of as many builds in one call.
func BenchmarkMoveCursors(b *testing.B) {
	for _, n := range []int{1, 32, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := open(b, pgtest.URL(b))
			saveEndpoint(b, s, "e")
			for i := range n {
				if _, err := s.AppendEvents(b.Context(), []store.Append{{BuildID: fmt.Sprintf("b%03d", i), Events: step("")}}); err != nil {
					b.Fatal(err)
				}
			}
			now := time.Now().Add(time.Minute)
			cursors, err := s.ClaimCursors(b.Context(), "n", "e", nil, now, now.Add(time.Hour), n)
			if err != nil || len(cursors) != n {
				b.Fatalf("%d cursors, %v", len(cursors), err)
			}
			moves := make([]store.Move, n)
			for i, c := range cursors {
				moves[i].Cursor = c
			}
			for b.Loop() {
				for i := range moves {
					moves[i].Next++
				}
				moved, err := s.MoveCursors(b.Context(), "n", moves)
				if err != nil || !moved[0].Held || !moved[n-1].Held {
					b.Fatalf("%+v, %v", moved, err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "moves/s")
		})
	}
}
