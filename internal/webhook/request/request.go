// Package request makes the HTTP requests that deliver events to webhook endpoints.
package request

import (
	"bytes"
	"context"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/webhooksig"
)

// HeaderAttempt says which attempt to deliver the event a request is, from 1.
const HeaderAttempt = "Webhook-Attempt"

// Receiver is who a delivery goes to.
type Receiver struct {
	URL string
	// Headers are sent beside those that New sets, which they cannot replace.
	Headers map[string]string
	Payload buildcast.Payload
	// Secrets sign each request, the newest first. Without any it is not signed.
	Secrets []webhooksig.Secret
}

// New makes the request that delivers the event: attempt number try, from 1,
// signed for the time at. It can be sent again (GetBody is set), but its
// signature is good for some minutes only: a retry is a new request. The URL is
// not in the error, as it may hold a password or a token.
func New(ctx context.Context, r Receiver, e *buildcast.Event, try int, at time.Time) (*http.Request, error) {
	body := appendPayload(make([]byte, 0, buildcast.EventOverhead+len(e.Data)), e, r.Payload)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil || req.URL.Host == "" {
		return nil, buildcast.Errorf(buildcast.InvalidArgument, "the endpoint's url is not valid: use one such as https://example.com/hooks").At("url")
	}
	for name, value := range r.Headers {
		req.Header.Set(name, value)
	}
	id := messageID(e)
	values := [...]string{
		"application/json", userAgent(), strconv.Itoa(try), id, strconv.FormatInt(at.Unix(), 10),
		webhooksig.Sign(id, at, body, r.Secrets...), "",
	}
	if len(r.Secrets) > 0 {
		values[6] = webhooksig.SignBody(body, r.Secrets[0])
	}
	set(req.Header, &values)
	return req, nil
}

// names are the headers of each request, in the order of their values in New.
var names = [...]string{
	"Content-Type", "User-Agent", HeaderAttempt, webhooksig.HeaderID, webhooksig.HeaderTimestamp,
	webhooksig.HeaderSignature, webhooksig.HeaderBodySignature,
}

// set puts the values into the header. They share one array: a slice for each
// would be an allocation for each. A header without a value is not sent.
func set(h http.Header, values *[len(names)]string) {
	for i, name := range names {
		if values[i] == "" {
			delete(h, name)
			continue
		}
		h[name] = values[i : i+1 : i+1]
	}
}

// messageID is the same for each attempt and each endpoint: build ids have no
// dots and event ids are digits, so that no two events share one.
func messageID(e *buildcast.Event) string {
	return "msg_" + e.BuildID + "_" + strconv.FormatInt(e.ID, 10)
}

// appendPayload appends a buildcast.WebhookPayload as JSON. It does so by hand,
// as Event.AppendJSON does: encoding/json would check and copy the data, which
// the log has checked.
func appendPayload(b []byte, e *buildcast.Event, payload buildcast.Payload) []byte {
	b = append(b, `{"buildId":"`...) // ids and types need no escaping
	b = append(b, e.BuildID...)
	b = append(b, `","id":`...)
	b = strconv.AppendInt(b, e.ID, 10)
	b = append(b, `,"type":"`...)
	b = append(b, e.Type...)
	b = append(b, '"')
	if payload != buildcast.PayloadThin {
		b = append(b, `,"data":`...)
		if len(e.Data) == 0 {
			b = append(b, "{}"...)
		} else {
			b = append(b, e.Data...)
		}
	}
	b = append(b, `,"progress":`...)
	b = strconv.AppendInt(b, int64(e.Progress), 10)
	b = append(b, `,"timestamp":"`...)
	b, _ = e.Timestamp.AppendText(b)
	return append(b, `"}`...)
}

// userAgent names buildcast, and its version where the build recorded one.
var userAgent = sync.OnceValue(func() string {
	product := "buildcast"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		product += "/" + strings.TrimPrefix(info.Main.Version, "v")
	}
	return product + " (+https://github.com/buildcast/buildcast)"
})
