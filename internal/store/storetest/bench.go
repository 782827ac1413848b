package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// Bench compares appends with insert, which stores one event in a bare table of the
// same database, in a transaction of its own. Both report events/s.
func Bench(b *testing.B, s store.Store, insert func(ctx context.Context, build, typ, data string) error) {
	const data = `{"taskName":"Create CSS Styles","message":"styles.css is written","filesCreated":1}`
	e := buildcast.NewEvent{Type: buildcast.BuildLog, Data: json.RawMessage(data)}
	thousand := make([]buildcast.NewEvent, 1000)
	for i := range thousand {
		thousand[i] = e
	}
	many := make([]store.Append, 32)
	for i := range many {
		many[i] = store.Append{BuildID: fmt.Sprint("of32-", i), Events: thousand[:1]}
	}
	for _, c := range []struct {
		name    string
		appends []store.Append
	}{
		{"1 event", []store.Append{{BuildID: "one", Events: thousand[:1]}}},
		{"32 builds", many},
		{"1000 events", []store.Append{{BuildID: "thousand", Events: thousand}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				answers, err := s.AppendEvents(b.Context(), c.appends)
				if err != nil {
					b.Fatal(err)
				}
				for _, a := range answers {
					n += len(a.Events)
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
	b.Run("1 event beside a bare INSERT", func(b *testing.B) { // in turn: both see the same machine
		var inserts, appends time.Duration
		for b.Loop() {
			begun := time.Now()
			if err := insert(b.Context(), "bare", e.Type, data); err != nil {
				b.Fatal(err)
			}
			between := time.Now()
			if _, err := s.AppendEvents(b.Context(), []store.Append{{BuildID: "beside", Events: thousand[:1]}}); err != nil {
				b.Fatal(err)
			}
			inserts, appends = inserts+between.Sub(begun), appends+time.Since(between)
		}
		b.ReportMetric(float64(appends)/float64(inserts), "INSERTs/append")
	})
	b.Run("bare INSERT", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := insert(b.Context(), "bare", e.Type, data); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	})
}
