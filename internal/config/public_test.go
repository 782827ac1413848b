package config

import (
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
)

func TestPublicURL(t *testing.T) {
	for raw, want := range map[string][2]string{ // origin, prefix
		"":                                       {"", ""},
		"https://builds.example.com":             {"https://builds.example.com", ""},
		"https://builds.example.com/":            {"https://builds.example.com", ""},
		"HTTPS://Builds.Example.com:443/":        {"https://builds.example.com", ""},
		"http://builds.example.com:80":           {"http://builds.example.com", ""},
		"http://localhost:9000":                  {"http://localhost:9000", ""},
		"https://example.com:8443/buildcast":     {"https://example.com:8443", "/buildcast"},
		"https://example.com/tools/Buildcast_1/": {"https://example.com", "/tools/Buildcast_1"},
	} {
		c := defaults(t)
		c.PublicURL = raw
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if c.PublicOrigin() != want[0] || c.Prefix() != want[1] || c.PublicURL != want[0]+want[1] {
			t.Errorf("%s: origin %s, prefix %s, URL %s", raw, c.PublicOrigin(), c.Prefix(), c.PublicURL)
		}
	}
	for raw, want := range map[string]string{
		"builds.example.com":                 "not an http or https URL",
		"ftp://builds.example.com":           "not an http or https URL",
		"https://":                           "not an http or https URL",
		"https://user:secret@b.example.com":  "user name or a password",
		"https://b.example.com?token=secret": "query or a fragment",
		"https://b.example.com#secret":       "query or a fragment",
		"https://b.example.com/a//b":         "not plain",
		"https://b.example.com/a/../b":       "not plain",
		"https://b.example.com/a%2Fb":        "not plain",
		"https://b.example.com/a b":          "not plain",
		"https://b.example.com/{id}":         "not plain",
		"https://b.example.com/api":          "use another, such as /buildcast",
		"https://b.example.com/socket.io/x":  "use another, such as /buildcast",
	} {
		c := defaults(t)
		c.PublicURL = raw
		err := c.Check()
		if buildcast.CodeOf(err) != buildcast.InvalidArgument || !strings.HasPrefix(err.Error(), "--public-url: ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q in it", raw, err, want)
		}
	}
}

func TestTrustedProxies(t *testing.T) {
	c, err := parse(t, "", "--trusted-proxies=127.0.0.1,10.1.2.3/8,::1,fd00::/8")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range c.Proxies() {
		got = append(got, p.String())
	}
	if strings.Join(got, " ") != "127.0.0.1/32 10.0.0.0/8 ::1/128 fd00::/8" {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{"localhost", "10.0.0.0/33", "10.0.0", "::ffff:10.0.0.0/104", "fe80::1%eth0", "*"} {
		if _, err := parse(t, "", "--trusted-proxies="+bad); err == nil || !strings.Contains(err.Error(), "10.0.0.0/8") && !strings.Contains(err.Error(), "use the IPv4 address") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestCredentialsNeedListedOrigins(t *testing.T) {
	for _, tt := range []struct {
		origins []string
		want    string
	}{
		{[]string{"https://app.example.com"}, ""},
		{nil, "--allow-origins"},
		{[]string{"*"}, "list the origins"},
		{[]string{"https://app.example.com", "*"}, "list the origins"},
	} {
		c := defaults(t)
		c.AllowCredentials, c.AllowOrigins = true, tt.origins
		if err := c.Check(); tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q: %v", tt.origins, err)
		}
	}
}

func TestPreviewHostNamesItsSuccessor(t *testing.T) {
	c := defaults(t)
	c.PreviewHost = "previews.example.com"
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), "--preview-url 'http://{label}.previews.example.com'") {
		t.Errorf("error %v", err)
	}
}
