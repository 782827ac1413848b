package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/store"
)

// instantLog costs next to nothing, so that the handlers' own cost is seen.
type instantLog struct {
	Log
	page []buildcast.Event
}

func (l *instantLog) Append(_ context.Context, _ string, _ int64, events ...buildcast.NewEvent) (store.Appended, error) {
	return store.Appended{Events: l.page[:len(events)], Status: buildcast.Status{LastEventID: 7}}, nil
}

func (l *instantLog) ReadEvents(_ context.Context, _ string, after int64, limit, _ int) ([]buildcast.Event, error) {
	return l.page[after : after+int64(min(20, limit))], nil
}

func (l *instantLog) Bounds(context.Context, []string) (map[string]store.Bounds, error) {
	return map[string]store.Bounds{"b1": {First: 1, Last: 27}}, nil
}

func (l *instantLog) Statuses(context.Context, []string) (map[string]buildcast.Status, error) {
	return map[string]buildcast.Status{"b1": {LastEventID: 27}}, nil
}

func benchHandler() http.Handler {
	l := &instantLog{page: make([]buildcast.Event, 1000)}
	for i := range l.page {
		l.page[i] = buildcast.Event{ID: int64(i) + 1, BuildID: "01JD3Q5Y2W8B7C6D5E4F3G2H1J", Type: buildcast.TaskStarted, Data: []byte(benchData), Timestamp: buildcast.Now()}
	}
	return New(Config{
		Log: l, Events: l, Hub: live.NewHub(l), Logger: quiet(),
	})
}

const (
	benchData  = `{"taskId":"t-3","taskName":"Create JavaScript File","worker":"w1","attempt":1}`
	benchEvent = `{"type":"task_started","data":` + benchData + `,"key":"t-3:started:1"}`
)

// discard is a ResponseWriter that keeps nothing.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

// bench serves the same request over and over; body is read anew each time.
func bench(b *testing.B, method, path, contentType, body string, headers ...string) {
	h := benchHandler()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		r, err := http.NewRequest(method, "http://localhost"+path, nil)
		if err != nil {
			b.Error(err)
			return
		}
		if body != "" {
			r.Header.Set("Content-Type", contentType)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		in := strings.NewReader(body)
		w := &discard{header: make(http.Header)}
		for pb.Next() {
			in.Reset(body)
			r.Body, r.ContentLength = io.NopCloser(in), int64(len(body))
			clear(w.header)
			w.status = 0
			h.ServeHTTP(w, r)
			if w.status != http.StatusOK && w.status != http.StatusCreated {
				b.Errorf("status %d", w.status)
				return
			}
		}
	})
}

func BenchmarkAppendOne(b *testing.B) { bench(b, "POST", eventsPath, jsonBody, benchEvent) }

func BenchmarkAppendArray(b *testing.B) {
	bench(b, "POST", eventsPath, jsonBody, "["+strings.Repeat(benchEvent+",", 99)+benchEvent+"]")
}

func BenchmarkStream(b *testing.B) {
	bench(b, "POST", eventsPath, ndjsonBody, strings.Repeat(benchEvent+"\n", 10_000))
}

func BenchmarkPoll(b *testing.B) {
	bench(b, "GET", eventsPath+"?lastEventId=7&limit=500", "", "")
}

func BenchmarkPollGzip(b *testing.B) {
	bench(b, "GET", eventsPath+"?lastEventId=7&limit=500", "", "", "Accept-Encoding", "gzip")
}

// BenchmarkAppendOneOverHTTP is 32 clients with connections that stay open.
func BenchmarkAppendOneOverHTTP(b *testing.B) {
	h := &harness{t: b, handler: benchHandler()}
	url := h.url()
	defer h.server.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	b.SetParallelism(16) // times 2 processors
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			a, err := client.Post(url+eventsPath, jsonBody, strings.NewReader(benchEvent))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, a.Body)
			_ = a.Body.Close()
			if a.StatusCode != http.StatusCreated {
				b.Error(fmt.Errorf("status %d", a.StatusCode))
				return
			}
		}
	})
}
