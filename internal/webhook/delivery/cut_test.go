package delivery_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/webhook/delivery"
	"github.com/buildcast/buildcast/internal/webhook/webhooktest"
)

// gaps returns the gaps that the log of operations reports.
func gaps(t *testing.T, operations *webhooktest.Site) (got [][2]int64) {
	t.Helper()
	for _, r := range operations.All() {
		if r.Type != delivery.TypeGap {
			continue
		}
		var gap struct {
			EndpointID, BuildID  string
			EventID, LastEventID int64
		}
		if err := json.Unmarshal(r.Data, &gap); err != nil || gap.EndpointID == "" || gap.BuildID != "b1" {
			t.Errorf("%s: %v", r.Data, err)
		}
		got = append(got, [2]int64{gap.EventID, gap.LastEventID})
	}
	return got
}

func cut(t *testing.T, w *webhooktest.World, first int64) {
	t.Helper()
	first, err := w.DB.TruncateLog(t.Context(), "b1", first)
	if err != nil {
		t.Fatal(err)
	}
	w.Publish(eventlog.Change{Kind: eventlog.Truncated, BuildID: "b1", FirstEventID: first})
}

// Events that wait for an endpoint are deleted: it goes on with the first that still
// exists, and the log of operations says which it missed.
func TestCutLogGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, _ := w.Site(buildcast.EndpointChange{})
		operations, _ := w.Site(buildcast.EndpointChange{Builds: &[]string{buildcast.OperationsBuild}})
		s.Set(webhooktest.Refuse)
		synctest.Wait()
		w.Add("b1", 10)
		<-time.After(time.Minute) // its breaker opens: all wait
		cut(t, w, 8)
		s.Set(nil)
		before := len(s.IDs("b1"))
		<-time.After(5 * time.Minute)
		if diff := cmp.Diff([]int64{8, 9, 10}, s.IDs("b1")[before:]); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([][2]int64{{1, 7}}, gaps(t, operations)); diff != "" {
			t.Error(diff)
		}
	})
}

// A log is cut beyond a cursor that is held, while a request is under way.
func TestCutUnderAHeldCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, _ := w.Site(buildcast.EndpointChange{})
		operations, _ := w.Site(buildcast.EndpointChange{Builds: &[]string{buildcast.OperationsBuild}})
		answer := make(chan struct{})
		s.Set(func(_ context.Context, r webhooktest.Received) (*http.Response, error) {
			if r.ID == 2 {
				<-answer
			}
			return webhooktest.Respond(200), nil
		})
		synctest.Wait()
		w.Add("b1", 6)
		synctest.Wait()
		cut(t, w, 5)
		synctest.Wait()
		close(answer)
		<-time.After(2 * delivery.PollTime)
		if diff := cmp.Diff([]int64{1, 2, 5, 6}, s.IDs("b1")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([][2]int64{{3, 4}}, gaps(t, operations)); diff != "" {
			t.Error(diff)
		}
		w.Add("b1", 1)
		synctest.Wait()
		if diff := cmp.Diff([]int64{1, 2, 5, 6, 7}, s.IDs("b1")); diff != "" {
			t.Error(diff)
		}
	})
}

// Everything that waits is deleted: nothing is left to deliver, and the cursor is
// parked.
func TestCutToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, _ := w.Site(buildcast.EndpointChange{})
		operations, _ := w.Site(buildcast.EndpointChange{Builds: &[]string{buildcast.OperationsBuild}})
		s.Set(webhooktest.Refuse)
		synctest.Wait()
		w.Add("b1", 6)
		<-time.After(time.Minute)
		cut(t, w, 7)
		before := len(s.IDs("b1"))
		s.Set(nil)
		<-time.After(5 * time.Minute)
		w.Add("b1", 1)
		<-time.After(5 * time.Minute)
		if diff := cmp.Diff([]int64{7}, s.IDs("b1")[before:]); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([][2]int64{{1, 6}}, gaps(t, operations)); diff != "" {
			t.Error(diff)
		}
		if n, err := w.DB.Waiting(t.Context()); err != nil || n[s.All()[0].BuildID].Cursors != 0 {
			t.Errorf("%v %v", n, err)
		}
	})
}

// A build is deleted while its events wait, and made again: only the new events come.
func TestDeletedBuildMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, _ := w.Site(buildcast.EndpointChange{})
		synctest.Wait()
		w.Add("b1", 3)
		if _, err := w.Log.Append(t.Context(), "b1", 0, buildcast.NewEvent{Type: buildcast.BuildCompleted}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		first, err := w.DB.DeleteBuild(t.Context(), "b1")
		if err != nil || first != 5 {
			t.Fatal(first, err)
		}
		w.Publish(eventlog.Change{Kind: eventlog.Truncated, BuildID: "b1", FirstEventID: first, Deleted: true})
		synctest.Wait()
		w.Add("b1", 2)
		<-time.After(2 * delivery.PollTime)
		if diff := cmp.Diff(webhooktest.UpTo(6), s.IDs("b1")); diff != "" {
			t.Error(diff)
		}
	})
}

// A rewind to an event that was deleted goes to the first that still exists.
func TestRewindBelowTheCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{})
		operations, _ := w.Site(buildcast.EndpointChange{Builds: &[]string{buildcast.OperationsBuild}})
		synctest.Wait()
		w.Add("b1", 6)
		<-time.After(2 * delivery.IdleTime)
		cut(t, w, 4)
		if err := w.Rewind(t.Context(), e.ID, "b1", 2); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * delivery.PollTime)
		if diff := cmp.Diff([]int64{1, 2, 3, 4, 5, 6, 4, 5, 6}, s.IDs("b1")); diff != "" {
			t.Error(diff)
		}
		if got := gaps(t, operations); len(got) != 0 {
			t.Errorf("nothing was missed: %v", got)
		}
	})
}
