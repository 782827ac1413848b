package webhookapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/store"
)

const endpointsPath = "/api/webhooks/endpoints"

// withReceivers is the API with an endpoint e1, and its service.
func withReceivers(t *testing.T) (*client, *receivers) {
	t.Helper()
	s := &receivers{all: []buildcast.Endpoint{receiver("e1", "https://example.com/hook")}}
	return &client{t, httpapi.New(httpapi.Config{Webhooks: s})}, s
}

func TestListEndpoints(t *testing.T) {
	h, s := withReceivers(t)
	a := h.get(endpointsPath).want(http.StatusOK)
	if got := decode[struct{ Endpoints []buildcast.Endpoint }](a); len(got.Endpoints) != 1 || got.Endpoints[0].ID != "e1" {
		t.Errorf("listed %+v", got)
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control: %s", got)
	}
	s.all = nil
	if a := h.get(endpointsPath).want(http.StatusOK); string(a.Body) != `{"endpoints":[]}` {
		t.Errorf("none: %s", a.Body)
	}
}

func TestCreateEndpoint(t *testing.T) {
	h, s := withReceivers(t)
	a := h.post(endpointsPath, `{"url":"https://example.com","types":["task_*"],"rateLimit":5,"ordering":"strict","headers":{"X-A":"b"},"enabled":false}`).want(http.StatusCreated)
	made := decode[buildcast.Endpoint](a)
	if made.Secret == "" || a.Header.Get("Location") != endpointsPath+"/"+made.ID {
		t.Errorf("made %+v at %s", made, a.Header.Get("Location"))
	}
	url, types, rate, ordering, headers, enabled := "https://example.com", []string{"task_*"}, 5, buildcast.OrderingStrict, map[string]string{"X-A": "b"}, false
	want := buildcast.EndpointChange{URL: &url, Types: &types, RateLimit: &rate, Ordering: &ordering, Headers: &headers, Enabled: &enabled}
	if diff := cmp.Diff([]any{want}, s.asked); diff != "" {
		t.Error(diff)
	}
	h.get(endpointsPath + "/" + made.ID).want(http.StatusOK)
}

func TestGetChangeAndDeleteEndpoint(t *testing.T) {
	h, s := withReceivers(t)
	const path = endpointsPath + "/e1"
	if got := decode[buildcast.Endpoint](h.get(path).want(http.StatusOK)); got.URL != s.all[0].URL || got.Secret != "" {
		t.Errorf("got %+v", got)
	}
	text := "for the site"
	if got := decode[buildcast.Endpoint](h.do("PATCH", path, `{"description":"for the site"}`).want(http.StatusOK)); got.Description != text {
		t.Errorf("changed to %+v", got)
	}
	if diff := cmp.Diff([]any{buildcast.EndpointChange{Description: &text}}, s.asked); diff != "" {
		t.Error(diff)
	}
	if a := h.do("DELETE", path, "").want(http.StatusNoContent); len(a.Body) > 0 {
		t.Errorf("deleted: %s", a.Body)
	}
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		h.do(method, path, "").want(http.StatusNotFound).problem(buildcast.NotFound, "")
	}
}

func TestRotateSecret(t *testing.T) {
	h, s := withReceivers(t)
	for _, text := range []string{"", "{}", `{"secret":"whsec_given","overlapSeconds":0}`, `{"overlapSeconds":604800}`} {
		h.post(endpointsPath+"/e1/rotate-secret", text).want(http.StatusOK)
	}
	if want := []any{24 * time.Hour, 24 * time.Hour, time.Duration(0), 7 * 24 * time.Hour}; !slices.Equal(s.asked, want) {
		t.Errorf("asked for %v, want %v", s.asked, want)
	}
	if got := decode[buildcast.Endpoint](h.post(endpointsPath+"/e1/rotate-secret", `{"secret":"whsec_given"}`)); got.Secret != "whsec_given" {
		t.Errorf("got %+v", got)
	}
}

func TestTestEndpoint(t *testing.T) {
	h, _ := withReceivers(t)
	if got := decode[buildcast.Attempt](h.post(endpointsPath+"/e1/test", "").want(http.StatusOK)); got.Status != 500 || got.Response != "no" {
		t.Errorf("the receiver's answer is %+v", got)
	}
}

func TestRewindAndRedeliver(t *testing.T) {
	h, s := withReceivers(t)
	h.post(endpointsPath+"/e1/rewind", `{"buildId":"b1","eventId":7}`).want(http.StatusAccepted)
	h.post(endpointsPath+"/e1/rewind", `{"buildId":"_operations","eventId":1}`).want(http.StatusAccepted)
	a := h.post(endpointsPath+"/e1/redeliver", `{"buildId":"b1","eventId":7}`).want(http.StatusAccepted)
	h.post(endpointsPath+"/e1/redeliver", `{"since":"2026-11-23T07:14:31.5+01:00"}`).want(http.StatusAccepted)
	if string(a.Body) != `{"redelivered":3}` {
		t.Errorf("answer %s", a.Body)
	}
	want := []any{
		"e1 to b1:7", "e1 to _operations:1",
		store.Redelivery{EndpointID: "e1", BuildID: "b1", EventID: 7},
		store.Redelivery{EndpointID: "e1", Since: time.Date(2026, 11, 23, 6, 14, 31, 5e8, time.UTC)},
	}
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Error(diff)
	}
}

func TestListDeliveries(t *testing.T) {
	h, s := withReceivers(t)
	if a := h.get("/api/webhooks/deliveries").want(http.StatusOK); string(a.Body) != `{"deliveries":[],"next":""}` {
		t.Errorf("none: %s", a.Body)
	}
	s.page = store.DeliveryPage{Deliveries: []buildcast.Delivery{{EndpointID: "e1", BuildID: "b1", EventID: 7, State: buildcast.DeliveryDead, CreatedAt: buildcast.Now(), UpdatedAt: buildcast.Now()}}, Next: "n2"}
	got := decode[struct {
		Deliveries []buildcast.Delivery
		Next       string
	}](h.get("/api/webhooks/deliveries?endpointId=e1&buildId=b1&state=dead&limit=1&before=n1").want(http.StatusOK))
	if len(got.Deliveries) != 1 || got.Deliveries[0].EventID != 7 || got.Next != "n2" {
		t.Errorf("listed %+v", got)
	}
	want := []any{
		store.DeliveryFilter{Limit: 50},
		store.DeliveryFilter{EndpointID: "e1", BuildID: "b1", State: buildcast.DeliveryDead, Before: "n1", Limit: 1},
	}
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Error(diff)
	}
}

func TestWebhookStatus(t *testing.T) {
	h, s := withReceivers(t)
	a := h.get("/api/webhooks/status").want(http.StatusOK)
	if got := decode[buildcast.WebhookStatus](a); len(got.Endpoints) != 1 || !strings.Contains(string(a.Body), `"1h":{"delivered":0,"failed":0,"success":null`) {
		t.Errorf("status %s", a.Body)
	}
	s.fails = buildcast.Errorf(buildcast.StoreUnavailable, "the database is away").After(time.Second)
	if a := h.get("/api/webhooks/status").want(http.StatusServiceUnavailable); a.Header.Get("Retry-After") != "1" {
		t.Errorf("headers %v", a.Header)
	}
}

func TestBadWebhookRequests(t *testing.T) {
	h, s := withReceivers(t)
	const e1 = endpointsPath + "/e1"
	for _, tt := range []struct{ method, path, body, field string }{
		{"POST", endpointsPath, "", "url"},
		{"POST", endpointsPath, `{"types":[]}`, "url"},
		{"POST", endpointsPath, `{"url":"ftp://example.com"}`, "url"}, // as the service says
		{"POST", endpointsPath, `{"url":7}`, "url"},
		{"POST", endpointsPath, `{"url":"https://example.com","type":[]}`, "type"},
		{"POST", endpointsPath, `{"url":"https://example.com"`, ""},
		{"POST", endpointsPath, `{"url":"https://example.com"}{}`, ""},
		{"POST", endpointsPath, `[]`, ""},
		{"PATCH", e1, `{"secret":"whsec_x"}`, "secret"},
		{"PATCH", e1, `{"breaker":{}}`, "breaker"},
		{"PATCH", e1, `{"rateLimit":"5"}`, "rateLimit"},
		{"GET", endpointsPath + "/e.1", "", "id"},
		{"DELETE", endpointsPath + "/" + strings.Repeat("e", 65), "", "id"},
		{"POST", endpointsPath + "/e%201/test", "", "id"},
		{"POST", e1 + "/rotate-secret", `{"overlapSeconds":-1}`, "overlapSeconds"},
		{"POST", e1 + "/rotate-secret", `{"overlapSeconds":604801}`, "overlapSeconds"},
		{"POST", e1 + "/rotate-secret", `{"overlap":1}`, "overlap"},
		{"POST", e1 + "/rewind", ``, "buildId"},
		{"POST", e1 + "/rewind", `{"buildId":"a.b","eventId":1}`, "buildId"},
		{"POST", e1 + "/rewind", `{"buildId":"b1"}`, "eventId"},
		{"POST", e1 + "/rewind", `{"buildId":"b1","eventId":-1}`, "eventId"},
		{"POST", e1 + "/redeliver", `{}`, "since"},
		{"POST", e1 + "/redeliver", `{"buildId":"b1","eventId":1,"since":"2026-11-23T07:14:31Z"}`, "since"},
		{"POST", e1 + "/redeliver", `{"buildId":"b1"}`, "eventId"},
		{"POST", e1 + "/redeliver", `{"eventId":1}`, "buildId"},
		{"POST", e1 + "/redeliver", `{"since":"yesterday"}`, ""},
		{"GET", "/api/webhooks/deliveries?endpointId=e.1", "", "endpointId"},
		{"GET", "/api/webhooks/deliveries?buildId=a.b", "", "buildId"},
		{"GET", "/api/webhooks/deliveries?state=lost", "", "state"},
		{"GET", "/api/webhooks/deliveries?limit=0", "", "limit"},
		{"GET", "/api/webhooks/deliveries?limit=201", "", "limit"},
		{"GET", "/api/webhooks/deliveries?before=" + strings.Repeat("x", 201), "", "before"},
	} {
		a := h.do(tt.method, tt.path, tt.body)
		if a.Status != http.StatusBadRequest {
			t.Errorf("%s %.80s %s: %d %s", tt.method, tt.path, tt.body, a.Status, a.Body)
			continue
		}
		a.problem(buildcast.InvalidArgument, tt.field)
	}
	h.post(endpointsPath, `{"url":"`+strings.Repeat("x", body.MaxBytes)+`"}`).want(http.StatusRequestEntityTooLarge).problem(buildcast.TooLarge, "")
	h.post(endpointsPath, `url=x`, "Content-Type", "application/x-www-form-urlencoded").want(http.StatusUnsupportedMediaType)
	if len(s.asked) > 0 {
		t.Errorf("the service was asked for %v", s.asked)
	}
	for _, path := range []string{"/rotate-secret", "/test"} {
		h.post(endpointsPath+"/none"+path, "").want(http.StatusNotFound).problem(buildcast.NotFound, "")
	}
	for _, path := range []string{"/rewind", "/redeliver"} {
		h.post(endpointsPath+"/none"+path, `{"buildId":"b1","eventId":1}`).want(http.StatusNotFound).problem(buildcast.NotFound, "")
	}
}

func TestWithoutWebhooks(t *testing.T) {
	h := &client{t, httpapi.New(httpapi.Config{})}
	for _, path := range []string{endpointsPath, endpointsPath + "/e1", "/api/webhooks/status", "/api/webhooks/deliveries"} {
		if p := h.get(path).want(http.StatusNotFound).problem(buildcast.NotFound, ""); !strings.Contains(p.Detail, "no webhooks") {
			t.Errorf("%s: %s", path, p.Detail)
		}
	}
}
