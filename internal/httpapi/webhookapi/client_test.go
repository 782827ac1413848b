package webhookapi_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
)

// client sends requests straight to the API's handler.
type client struct {
	t       *testing.T
	handler http.Handler
}

// do sends a request. Headers come in pairs; a body without a Content-Type among
// them is JSON.
func (c *client) do(method, path, body string, headers ...string) answer {
	c.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	return answer{c.t, w.Code, w.Header(), w.Body.Bytes()}
}

func (c *client) get(path string) answer {
	c.t.Helper()
	return c.do("GET", path, "")
}

func (c *client) post(path, body string, headers ...string) answer {
	c.t.Helper()
	return c.do("POST", path, body, headers...)
}

type answer struct {
	t      *testing.T
	Status int
	Header http.Header
	Body   []byte
}

func (a answer) want(status int) answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("status %d, want %d: %s", a.Status, status, a.Body)
	}
	return a
}

// problem checks an error and returns it.
func (a answer) problem(code buildcast.Code, field string) problem.Problem {
	a.t.Helper()
	p := decode[problem.Problem](a)
	if p.Code != string(code) || p.Field != field || p.Status != a.Status {
		a.t.Fatalf("status %d, problem %+v; want code %s and field %q", a.Status, p, code, field)
	}
	return p
}

// decode reads the body, strictly.
func decode[T any](a answer) T {
	a.t.Helper()
	var v T
	d := json.NewDecoder(bytes.NewReader(a.Body))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		a.t.Fatalf("decoding %s: %v", a.Body, err)
	}
	return v
}
