package webhook

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
)

// Headers of an endpoint that would end a line, or replace what buildcast says.
func TestHeadersThatAreRefused(t *testing.T) {
	for name, h := range map[string][2]string{
		"CRLF in the value":          {"X-A", "a\r\nX-Injected: 1"},
		"LF in the value":            {"X-A", "a\nb"},
		"CR in the value":            {"X-A", "a\rb"},
		"NUL in the value":           {"X-A", "a\x00"},
		"DEL in the value":           {"X-A", "a\x7f"},
		"tab in the value":           {"X-A", "a\tb"},
		"no UTF-8":                   {"X-A", "a\xff"},
		"a long value":               {"X-A", strings.Repeat("x", maxHeaderValue+1)},
		"CRLF in the name":           {"X-A\r\nX-B", "1"},
		"colon in the name":          {"X-A: 1", "1"},
		"space in the name":          {"X A", "1"},
		"space after the name":       {"X-A ", "1"},
		"a name beyond ASCII":        {"X-Ä", "1"},
		"a pseudo header":            {":authority", "good.example"},
		"no name":                    {"", "1"},
		"a long name":                {strings.Repeat("x", maxHeaderName+1), "1"},
		"host":                       {"host", "127.0.0.1"},
		"length":                     {"CONTENT-LENGTH", "0"},
		"transfer encoding":          {"transfer-Encoding", "chunked"},
		"connection":                 {"Connection", "X-Webhook-Signature"},
		"type":                       {"content-type", "text/plain"},
		"upgrade":                    {"Upgrade", "websocket"},
		"trailer":                    {"Trailer", "X-A"},
		"expect":                     {"Expect", "100-continue"},
		"proxy's":                    {"proxy-authorization", "Basic x"},
		"signature":                  {"webhook-signature", "v1,x"},
		"id":                         {"WEBHOOK-ID", "x"},
		"the body's signature":       {"x-webhook-signature", "x"},
		"what begins with webhook":   {"Webhook-Anything", "x"},
		"what asks for a compressed": {"Accept-Encoding", "gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkHeaders(map[string]string{h[0]: h[1]})
			if e, ok := errors.AsType[*buildcast.Error](err); !ok || e.Code != buildcast.InvalidArgument || e.Field != "headers" {
				t.Fatalf("%v", err)
			}
			if strings.ContainsAny(err.Error(), "\r\n\x00") || len(h[1]) > 3 && strings.Contains(err.Error(), h[1]) {
				t.Errorf("the error repeats it: %q", err)
			}
		})
	}
	many := map[string]string{}
	for i := range maxHeaders {
		many[fmt.Sprintf("X-%d", i)] = strings.Repeat("x", maxHeaderValue)
	}
	if err := checkHeaders(many); err != nil {
		t.Error(err)
	}
	many["X-More"] = ""
	if err := checkHeaders(many); err == nil {
		t.Error("there are too many")
	}
	if err := checkHeaders(map[string]string{"Authorization": "Bearer é", "X-Empty": "", "x-lower!#$%&'*+.^_`|~": "1"}); err != nil {
		t.Error(err)
	}
}
