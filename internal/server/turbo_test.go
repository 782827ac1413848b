package server

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// send makes a request; headers come in pairs.
func send(t *testing.T, method, url, body string, headers ...string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestTurboCacheNeedsTheKey(t *testing.T) {
	cfg := settings(t)
	cfg.APIKeys = []string{"0123456789abcdef"}
	s, _ := start(t, cfg)
	artifact := s.URL() + "/v8/artifacts/aaaa?slug=site"
	for _, method := range []string{"PUT", "GET", "HEAD"} {
		for _, key := range []string{"", "Bearer wrong", "Bearer sandbox"} {
			if status, text := send(t, method, artifact, "", "Authorization", key); status != 403 || method != "HEAD" && !strings.Contains(text, `"code":"forbidden"`) {
				t.Errorf("%s with %q: %d %s", method, key, status, text)
			}
		}
	}
	const key = "Bearer 0123456789abcdef"
	if status, text := send(t, "PUT", artifact, "content", "Authorization", key); status != 202 {
		t.Fatalf("PUT: %d %s", status, text)
	}
	if status, text := send(t, "GET", artifact, "", "Authorization", key); status != 200 || text != "content" {
		t.Errorf("GET: %d %s", status, text)
	}
	if status, _ := send(t, "GET", s.URL()+"/v8/artifacts/aaaa?slug=other", "", "Authorization", key); status != 404 {
		t.Errorf("another team: %d", status)
	}
}

// Without keys, pages of other sites and other host names are kept out, as everywhere.
func TestTurboCacheWithoutKeys(t *testing.T) {
	s, _ := start(t, settings(t))
	artifact := s.URL() + "/v8/artifacts/aaaa"
	for name, headers := range map[string][]string{
		"another site":  {"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"},
		"a rebound one": {"Host", "evil.example"},
		"a proxy":       {"X-Forwarded-For", "192.0.2.1"},
	} {
		for _, method := range []string{"PUT", "GET"} {
			if status, text := send(t, method, artifact, "x", headers...); status != 403 {
				t.Errorf("%s by %s: %d %s", method, name, status, text)
			}
		}
	}
	if status, _ := send(t, "PUT", artifact, "content", "Authorization", "Bearer anything"); status != 202 {
		t.Errorf("PUT: %d", status)
	}
	if status, text := send(t, "GET", artifact, ""); status != 200 || text != "content" {
		t.Errorf("GET: %d %s", status, text)
	}
}
