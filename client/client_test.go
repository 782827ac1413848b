package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
)

func TestNewChecksWhatItIsGiven(t *testing.T) {
	for server, ok := range map[string]bool{
		"http://127.0.0.1:8080": true, "https://example.com/buildcast/": true, "http://[::1]:8080": true,
		"": false, "example.com": false, "127.0.0.1:8080": false, "ftp://example.com": false, "http://": false, "http://:80": false,
		"http://user:secret@example.com": false, "http://example.com?key=secret": false, "http://example.com#x": false, "http://a b": false,
	} {
		_, err := New(server)
		if (err == nil) != ok || err != nil && buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("%q: %v", server, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error tells the secret: %v", server, err)
		}
	}
	if _, err := New("http://example.com", APIKey("secret\n")); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a key with a line break: %v", err)
	}
}

// recorded is a request as it arrived.
type recorded struct {
	method, uri, body string
	header            http.Header
}

// record answers every request alike and keeps the last.
func record(t *testing.T, answer string) (*Client, *recorded) {
	t.Helper()
	var last recorded
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		last = recorded{r.Method, r.RequestURI, string(body), r.Header}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	c, err := New(s.URL+"/below/", APIKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c, &last
}

func TestCalls(t *testing.T) {
	plan := &buildcast.Plan{Name: "p", Tasks: []buildcast.Task{{Name: "t", Run: "a < b && c"}}}
	for _, test := range []struct {
		name, answer string
		call         func(*Client) (any, error)
		want         string // the answer, decoded and encoded again in part
		sent         string
		body         string
	}{
		{"create", `{"id":"b1","status":{"status":"queued"}}`, func(c *Client) (any, error) {
			b, err := c.CreateBuild(t.Context(), CreateBuild{ID: "b1", Project: "x", Plan: plan, Deploy: "none", IdempotencyKey: "i1"})
			return b.ID + " " + string(b.Status.Phase), err
		}, "b1 queued", "POST /below/api/builds", `{"id":"b1","project":"x","plan":{"name":"p","tasks":[{"name":"t","run":"a < b && c"}]},"deploy":"none"}` + "\n"},
		{"build", `{"id":"b1","project":"x"}`, func(c *Client) (any, error) {
			b, err := c.Build(t.Context(), "b1")
			return b.Project, err
		}, "x", "GET /below/api/builds/b1", ""},
		{"status", `{"buildId":"b1","status":"failed","progress":40}`, func(c *Client) (any, error) {
			s, err := c.Status(t.Context(), "b1")
			return string(s.Phase), err
		}, "failed", "GET /below/api/builds/b1/status", ""},
		{"list", `{"builds":[{"buildId":"b1"}],"next":"n1"}`, func(c *Client) (any, error) {
			p, err := c.Builds(t.Context(), Filter{Phase: buildcast.Failed, Project: "a b&c", Before: "n0", Limit: 5})
			return p.Builds[0].BuildID + " " + p.Next, err
		}, "b1 n1", "GET /below/api/builds?before=n0&limit=5&project=a+b%26c&status=failed", ""},
		{"list all", `{"builds":[{"buildId":"b1"}],"next":""}`, func(c *Client) (any, error) {
			p, err := c.Builds(t.Context(), Filter{})
			return p.Next, err
		}, "", "GET /below/api/builds", ""},
		{"cancel", `{"buildId":"b1","status":"cancelled"}`, func(c *Client) (any, error) {
			s, err := c.Cancel(t.Context(), "b1")
			return string(s.Phase), err
		}, "cancelled", "POST /below/api/builds/b1/cancel", ""},
		{"retry", `{"id":"b2","retryOf":"b1"}`, func(c *Client) (any, error) {
			b, err := c.Retry(t.Context(), "b1", Retry{From: buildcast.RetryStart, IdempotencyKey: "i1"})
			return b.ID + " " + b.RetryOf, err
		}, "b2 b1", "POST /below/api/builds/b1/retry", `{"from":"start"}` + "\n"},
		{"delete", ``, func(c *Client) (any, error) { return "", c.Delete(t.Context(), "b1") }, "", "DELETE /below/api/builds/b1", ""},
		{"append", `{"buildId":"b1","ids":[4,5],"lastEventId":5}`, func(c *Client) (any, error) {
			ids, err := c.Append(t.Context(), "b1", buildcast.NewEvent{Type: "a", Data: json.RawMessage(`{"x":"<&>"}`), Key: "k"}, ev("b"))
			return strconv.Itoa(int(ids[0])) + strconv.Itoa(int(ids[1])), err
		}, "45", "POST /below/api/builds/b1/events", "[" + `{"type":"a","data":{"x":"<&>"},"key":"k"}` + "\n," + `{"type":"b"}` + "\n]"},
		{"append nothing", `no`, func(c *Client) (any, error) {
			_, err := c.Append(t.Context(), "b1")
			return "", err
		}, "", " ", ""},
		{"stream", `{"buildId":"b1","idRanges":[[1,2]],"count":2,"lastEventId":2}`, func(c *Client) (any, error) {
			s, err := c.AppendStream(t.Context(), "b1", strings.NewReader("{\"type\":\"a\"}\n{\"type\":\"b\"}\n"))
			return strconv.Itoa(int(s.Count)), err
		}, "2", "POST /below/api/builds/b1/events", "{\"type\":\"a\"}\n{\"type\":\"b\"}\n"},
		{"events", `{"events":[{"id":8,"buildId":"b1","type":"a","data":{"n":1},"progress":5,"timestamp":"2026-11-23T07:14:31.123Z"}],"lastEventId":8,"hasMore":true}`, func(c *Client) (any, error) {
			p, err := c.Events(t.Context(), "b1", 7, 10, 1500*time.Millisecond)
			return strconv.FormatBool(p.HasMore) + string(p.Events[0].Data), err
		}, `true{"n":1}`, "GET /below/api/builds/b1/events?lastEventId=7&limit=10&wait=1.5s", ""},
		{"events now", `{"events":[],"lastEventId":7,"hasMore":false}`, func(c *Client) (any, error) {
			p, err := c.Events(t.Context(), "b1", 7, 0, 0)
			return strconv.Itoa(int(p.LastEventID)), err
		}, "7", "GET /below/api/builds/b1/events?lastEventId=7", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, sent := record(t, test.answer)
			got, err := test.call(c)
			if err != nil || got != test.want {
				t.Errorf("got %q, %v", got, err)
			}
			if s := sent.method + " " + sent.uri; s != test.sent || sent.body != test.body {
				t.Errorf("sent %s\n%s", s, sent.body)
			}
			if test.sent != " " && sent.header.Get("Authorization") != "Bearer k1" {
				t.Errorf("sent %v", sent.header)
			}
			if key := sent.header.Get("Idempotency-Key"); (key == "i1") != (test.name == "create" || test.name == "retry") {
				t.Errorf("idempotency key %q", key)
			}
			kind := map[string]string{"create": jsonType, "retry": jsonType, "append": jsonType, "stream": ndjsonType}[test.name]
			if sent.header.Get("Content-Type") != kind {
				t.Errorf("content type %q", sent.header.Get("Content-Type"))
			}
		})
	}
}

func TestBadIDsAreNotSent(t *testing.T) {
	c, sent := record(t, "{}")
	const bad = "../../x"
	_, create := c.CreateBuild(t.Context(), CreateBuild{ID: bad})
	_, get := c.Build(t.Context(), bad)
	_, again := c.Retry(t.Context(), bad, Retry{})
	_, status := c.Status(t.Context(), bad)
	_, cancel := c.Cancel(t.Context(), bad)
	_, add := c.Append(t.Context(), bad, ev("a"))
	_, stream := c.AppendStream(t.Context(), bad, strings.NewReader(""))
	_, events := c.Events(t.Context(), bad, 0, 0, 0)
	_, emitter := c.Emitter(bad, EmitterOptions{})
	for i, err := range []error{create, get, again, status, cancel, c.Delete(t.Context(), bad), add, stream, events, emitter} {
		if buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("%d: %v", i, err)
		}
	}
	if sent.method != "" {
		t.Errorf("sent %s %s", sent.method, sent.uri)
	}
}

func TestErrorsOfTheServer(t *testing.T) {
	html := strings.Repeat("<h1>Sorry</h1>", 10_000)
	for _, test := range []struct {
		status     int
		body       string
		retryAfter string
		code       buildcast.Code
		says       string
		after      time.Duration
	}{
		{400, `{"code":"invalid_argument","detail":"data is wrong","field":"[3].data"}`, "", buildcast.InvalidArgument, "data is wrong", 0},
		{409, `{"code":"cursor_ahead","detail":"d","lastEventId":4}`, "", buildcast.CursorAhead, "d", 0},
		{409, `{"code":"not_finished","detail":"d"}`, "", buildcast.NotFinished, "d", 0},
		{418, `{"code":"a_new_one","detail":"d"}`, "", "a_new_one", "d", 0},
		{429, `{"code":"overloaded","detail":"d","retryAfter":2}`, "", buildcast.Overloaded, "d", 2 * time.Second},
		{503, `{"code":"store_unavailable","detail":"d","retryAfter":2}`, "3", buildcast.StoreUnavailable, "d", 3 * time.Second},
		{408, `{"code":"timeout","detail":"the body stopped arriving"}`, "", buildcast.StoreUnavailable, "stopped arriving", 0},
		{401, html, "", buildcast.Unauthenticated, "answered 401 Unauthorized", 0},
		{403, html, "", buildcast.PermissionDenied, "403", 0},
		{404, "404 page not found", "", buildcast.NotFound, "404", 0},
		{405, "", "", buildcast.NotFound, "405", 0},
		{413, html, "", buildcast.TooLarge, "413", 0},
		{429, html, "Mon, 02 Jan 2006 15:04:05 GMT", buildcast.Overloaded, "429", 0},
		{500, `{"code":"internal","detail":"a defect"}`, "", buildcast.Internal, "a defect", 0},
		{500, html, "", buildcast.Unreachable, "500", 0},
		{502, html, "soon", buildcast.Unreachable, "502", 0},
		{503, html, "99999999999999", buildcast.Unreachable, "503", 24 * time.Hour},
		{504, "{", "-1", buildcast.Unreachable, "504", 0},
		{521, "", "", buildcast.Unreachable, "521", 0},
		{300, "", "", buildcast.NotFound, "300", 0},
	} {
		c := connect(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if test.retryAfter != "" {
				w.Header().Set("Retry-After", test.retryAfter)
			}
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		}))
		_, err := c.Build(t.Context(), build)
		e, ok := errors.AsType[*buildcast.Error](err)
		if !ok || e.Code != test.code || !strings.Contains(err.Error(), test.says) || e.RetryAfter != test.after || len(err.Error()) > 1000 {
			t.Errorf("%d %.30s: %#v", test.status, test.body, err)
			continue
		}
		if test.status == 400 && e.Field != "[3].data" {
			t.Errorf("field %q", e.Field)
		}
	}
}

func TestRetryAfterAsADate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now().Add(90 * time.Second)
		if d := retryAfter(at.UTC().Format(http.TimeFormat), 0); d != 90*time.Second {
			t.Errorf("got %v", d)
		}
	})
}

// A redirect must not take the key to another host, nor make a POST a GET.
func TestRedirectsAreNotFollowed(t *testing.T) {
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := httptest.NewServer(http.RedirectHandler(other.URL+"/login?x=y", status))
		given := &http.Client{Timeout: time.Nanosecond}
		c, err := New(s.URL, APIKey("secret"), HTTPClient(given))
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Append(t.Context(), build, ev("a"))
		if buildcast.CodeOf(err) != buildcast.NotFound || !strings.Contains(err.Error(), "redirects to "+other.URL+":") {
			t.Errorf("%d: %v", status, err)
		}
		if given.CheckRedirect != nil || given.Timeout != time.Nanosecond {
			t.Error("the caller's client was changed")
		}
		s.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	if asked {
		t.Error("the other host was asked")
	}
}

func TestAnswersThatAreNotBuildcasts(t *testing.T) {
	for name, answer := range map[string]string{
		"a page": "<!doctype html>", "another shape": `{"ids":"1"}`, "nothing": "", "too few ids": `{"ids":[]}`, "too many ids": `{"ids":[1,2]}`,
	} {
		c, _ := record(t, answer)
		ids, err := c.Append(t.Context(), build, ev("a"))
		if buildcast.CodeOf(err) != buildcast.Internal || !isAnswer(err) || len(ids) != 0 {
			t.Errorf("%s: %v, %v", name, ids, err)
		}
	}
}

func TestAnswersAreBounded(t *testing.T) {
	c := connect(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, maxAnswer+1))
	}))
	if _, err := c.Status(t.Context(), build); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("error %v", err)
	}
}

func TestARequestIsBoundedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := connect(t, nil, "silent").Events(t.Context(), build, 0, 0, 25*time.Second)
		if took := time.Since(began); took != 25*time.Second+answerTimeout || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 55s") {
			t.Errorf("%v after %v", err, took)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		cancel(why)
		if _, err := connect(t, nil, "silent").Status(ctx, build); !errors.Is(err, why) {
			t.Errorf("error %v", err)
		}
	})
}

// counted keeps the size of each request's body and of its array.
func counted(t *testing.T, bytes, events *[]int) *Client {
	s := newServer()
	return connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var list []json.RawMessage
		_ = json.Unmarshal(body, &list)
		*bytes, *events = append(*bytes, len(body)), append(*events, len(list))
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		s.ServeHTTP(w, r)
	}))
}

func TestAppendSplits(t *testing.T) {
	var bytes, events []int
	c := counted(t, &bytes, &events)
	ids, err := c.Append(t.Context(), build, slices.Repeat([]buildcast.NewEvent{ev("a")}, 2500)...)
	if err != nil || len(ids) != 2500 || ids[2499] != 2500 || !slices.Equal(events, []int{1000, 1000, 500}) {
		t.Errorf("%d ids, requests of %v, %v", len(ids), events, err)
	}
	// The most that an event may be, in bytes that HTML escaping would make six times as many.
	bytes, events = nil, nil
	largest := buildcast.NewEvent{Type: "a", Data: json.RawMessage(`"` + strings.Repeat("<", buildcast.MaxEventData-2) + `"`)}
	ids, err = c.Append(t.Context(), build, slices.Repeat([]buildcast.NewEvent{largest}, 70)...)
	if err != nil || len(ids) != 70 || !slices.Equal(events, []int{63, 7}) || slices.Max(bytes) > maxBody {
		t.Errorf("%d ids, requests of %v events, %v bytes, %v", len(ids), events, bytes, err)
	}
}

func TestAppendSaysWhatIsStored(t *testing.T) {
	c := connect(t, newServer(), "", "refused")
	ids, err := c.Append(t.Context(), build, slices.Repeat([]buildcast.NewEvent{ev("a")}, 1500)...)
	if !errors.Is(err, errRefused) || len(ids) != 1000 {
		t.Errorf("%d ids, %v", len(ids), err)
	}
}

func TestAppendChecksAllBeforeItSendsAny(t *testing.T) {
	s := newServer()
	events := slices.Repeat([]buildcast.NewEvent{ev("a")}, 1500)
	events[1200].Data = json.RawMessage("{")
	_, err := connect(t, s).Append(t.Context(), build, events...)
	e, ok := errors.AsType[*buildcast.Error](err)
	if !ok || e.Code != buildcast.InvalidArgument || e.Field != "[1200].data" || len(s.types()) != 0 {
		t.Errorf("%v, %d stored", err, len(s.types()))
	}
	if events[0].Data != nil {
		t.Error("the caller's events were changed")
	}
}

// closable fails the test where it is closed.
type closable struct {
	io.Reader
	t *testing.T
}

func (c closable) Close() error { c.t.Error("closed"); return nil }

func TestAStreamThatFailsSaysHowFarItCame(t *testing.T) {
	wrong := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"code":"invalid_argument","detail":"line 3 is wrong","line":3,"count":2,"lastEventId":7}`)
	}))
	defer wrong.Close()
	c, err := New(wrong.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	s, err := c.AppendStream(t.Context(), build, closable{strings.NewReader("x"), t})
	if buildcast.CodeOf(err) != buildcast.InvalidArgument || s != (Streamed{Count: 2, LastEventID: 7}) {
		t.Errorf("%+v, %v", s, err)
	}
}

// Where no answer of buildcast's comes, the call may have been carried out or not.
func TestNoAnswerIsUnreachable(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	for name, c := range map[string]*Client{
		"refused": connect(t, page, "refused"), "a proxy's page": connect(t, page),
		"an answer that is cut off": connect(t, newServer(), "cut"), "an answer that is lost": connect(t, newServer(), "lost"),
	} {
		if _, err := c.Append(t.Context(), build, ev("a")); buildcast.CodeOf(err) != buildcast.Unreachable || !buildcast.Temporary(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
