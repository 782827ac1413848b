package webhook

import (
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/webhook/delivery"
)

// Limits of an endpoint.
const (
	maxEndpoints   = 200
	maxDescription = 500
	maxPatterns    = 50
	maxFollowed    = 1000 // builds, and projects
	maxHeaders     = 20
	maxHeaderName  = 100
	maxHeaderValue = 1000
	maxRate        = 10_000
	minTimeout     = time.Second
	maxTimeout     = delivery.MaxTimeout
	defaultTimeout = 15 * time.Second
)

func invalid(field, format string, args ...any) *buildcast.Error {
	return buildcast.Errorf(buildcast.InvalidArgument, field+": "+format, args...).At(field)
}

// apply makes a change to the endpoint, or refuses it.
func (s *endpoints) apply(ep *delivery.Endpoint, c buildcast.EndpointChange) error {
	if c.URL != nil {
		if err := s.checkURL(*c.URL); err != nil {
			return err
		}
		ep.URL = *c.URL
	}
	if c.Description != nil {
		if len(*c.Description) > maxDescription || !printable(*c.Description) {
			return invalid("description", "use at most %d bytes of text without control characters", maxDescription)
		}
		ep.Description = *c.Description
	}
	if c.Types != nil {
		if err := checkTypes(*c.Types); err != nil {
			return err
		}
		ep.Types = list(*c.Types)
	}
	if err := applyFollowed(ep, c); err != nil {
		return err
	}
	if c.Headers != nil {
		if err := checkHeaders(*c.Headers); err != nil {
			return err
		}
		ep.Values = maps.Clone(*c.Headers)
	}
	return applySending(ep, c)
}

func applyFollowed(ep *delivery.Endpoint, c buildcast.EndpointChange) error {
	if c.Builds != nil {
		if len(*c.Builds) > maxFollowed {
			return invalid("builds", "there are %d: name at most %d, or filter by project", len(*c.Builds), maxFollowed)
		}
		for _, id := range *c.Builds {
			if err := buildcast.ValidateBuildID(id); err != nil {
				return invalid("builds", "%q is not a build id: %v", id, err)
			}
		}
		ep.Builds = list(*c.Builds)
	}
	if c.Projects != nil {
		if len(*c.Projects) > maxFollowed {
			return invalid("projects", "there are %d: name at most %d", len(*c.Projects), maxFollowed)
		}
		for _, p := range *c.Projects {
			if p == "" || len(p) > buildcast.MaxProject || !printable(p) {
				return invalid("projects", "%.40q is not the name of a project", p)
			}
		}
		ep.Projects = list(*c.Projects)
	}
	return nil
}

// applySending changes how requests are sent.
func applySending(ep *delivery.Endpoint, c buildcast.EndpointChange) error {
	if c.RateLimit != nil {
		if *c.RateLimit < 0 || *c.RateLimit > maxRate {
			return invalid("rateLimit", "it is %d: use 0 (no limit) to %d requests a second", *c.RateLimit, maxRate)
		}
		ep.RateLimit = *c.RateLimit
	}
	if c.TimeoutMS != nil {
		if d := time.Duration(*c.TimeoutMS) * time.Millisecond; d < minTimeout || d > maxTimeout {
			return invalid("timeoutMs", "it is %d: use %d to %d milliseconds", *c.TimeoutMS, minTimeout.Milliseconds(), maxTimeout.Milliseconds())
		}
		ep.TimeoutMS = *c.TimeoutMS
	}
	if c.Ordering != nil {
		if *c.Ordering != buildcast.OrderingNormal && *c.Ordering != buildcast.OrderingStrict {
			return invalid("ordering", "%.20q is not an ordering: use normal or strict", *c.Ordering)
		}
		ep.Ordering = *c.Ordering
	}
	if c.Payload != nil {
		if *c.Payload != buildcast.PayloadFull && *c.Payload != buildcast.PayloadThin {
			return invalid("payload", "%.20q is not a payload: use full or thin", *c.Payload)
		}
		ep.Payload = *c.Payload
	}
	if c.Enabled != nil {
		if ep.Enabled = *c.Enabled; ep.Enabled {
			ep.DisabledReason = ""
		}
	}
	return nil
}

func checkTypes(types []string) error {
	if len(types) > maxPatterns {
		return invalid("types", "there are %d: use at most %d, and * for several, such as task_*", len(types), maxPatterns)
	}
	for _, pattern := range types {
		plain := strings.Trim(pattern, "abcdefghijklmnopqrstuvwxyz0123456789_.-*") == ""
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" || len(pattern) > 50 || !plain {
			return invalid("types", "%.60q is not an event type: use 1 to 50 of a-z, 0-9, _, . and -, with * for any run of characters", pattern)
		}
	}
	return nil
}

// reserved are headers that buildcast sets itself, or that belong to the connection.
var reserved = []string{
	"Host", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection", "Keep-Alive", "Te", "Trailer",
	"Upgrade", "Expect", "Proxy-Authorization", "Proxy-Connection", "User-Agent", "X-Webhook-Signature", "Accept-Encoding",
}

func checkHeaders(headers map[string]string) error {
	if len(headers) > maxHeaders {
		return invalid("headers", "there are %d: use at most %d", len(headers), maxHeaders)
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		canonical := http.CanonicalHeaderKey(name)
		switch value := headers[name]; {
		case len(name) > maxHeaderName || !token(name):
			return invalid("headers", "%.60q is not a header's name", name)
		case slices.Contains(reserved, canonical) || strings.HasPrefix(canonical, "Webhook-"):
			return invalid("headers", "%s is set by buildcast: leave it out", canonical)
		case len(value) > maxHeaderValue || !printable(value):
			return invalid("headers", "the value of %s is longer than %d bytes or holds control characters", canonical, maxHeaderValue)
		}
	}
	return nil
}

// token reports whether the text is a token as RFC 9110 defines it.
func token(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// list is a copy that is never nil, so that JSON has [] and not null.
func list(in []string) []string { return append([]string{}, in...) }
