package httpapi

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deflate"
	"github.com/buildcast/buildcast/internal/live"
)

// tally is a ResponseWriter that counts bytes.
type tally struct {
	discard
	bytes int
}

func (c *tally) Write(b []byte) (int, error) { c.bytes += len(b); return len(b), nil }
func (c *tally) Flush()                      {}

// BenchmarkSSE is what one frame costs: made once and sent to so many readers.
func BenchmarkSSE(b *testing.B) {
	for _, events := range []int{1, 5, 50, 500} {
		for _, readers := range []int{1, 1000} {
			for _, form := range []string{"plain", "gzip"} {
				b.Run(fmt.Sprintf("events=%d/readers=%d/%s", events, readers, form), func(b *testing.B) {
					benchFrames(b, events, readers, form == "gzip")
				})
			}
		}
	}
}

func benchFrames(b *testing.B, events, readers int, zipped bool) {
	batch := make([]buildcast.Event, events)
	for i := range batch {
		batch[i] = buildcast.Event{
			ID: int64(i) + 1, BuildID: "01JD3Q5Y2W8B7C6D5E4F3G2H1J", Type: buildcast.TaskStarted, Progress: 40, Timestamp: buildcast.Now(),
			Data: fmt.Appendf(nil, `{"taskId":"t-%d","taskName":"Create JavaScript File %d","worker":"w%d","attempt":1}`, i, i*7, i%4),
		}
	}
	to := &tally{discard: discard{header: make(http.Header)}}
	streams := make([]*sse, readers)
	for i := range streams {
		streams[i] = &sse{w: to, conn: http.NewResponseController(to)}
		if zipped {
			streams[i].gzip = new(deflate.Member)
		}
	}
	b.ReportAllocs()
	frames := 0
	for b.Loop() {
		frame := &live.Batch{Events: batch}
		frames++
		for _, s := range streams {
			if !s.sendBatch(frame) {
				b.Fatal("not sent")
			}
		}
	}
	b.ReportMetric(float64(to.bytes)/float64(frames*readers*events), "bytes/event")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(frames*readers), "ns/reader")
}
