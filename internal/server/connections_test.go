package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Connections never get the descriptors that builds need, and always get some.
func TestShareOf(t *testing.T) {
	tests := []struct {
		descriptors, commands int
		want                  share
	}{
		{256, 16, share{84, 14}},
		{1024, 16, share{660, 110}},
		{20000, 16, share{14892, 2482}},
		{256, 1_000_000, share{48, 8}},
		{16, 16, share{4, 4}},
	}
	for _, tt := range tests {
		got := shareOf(tt.descriptors, tt.commands)
		if got != tt.want {
			t.Errorf("%d descriptors, %d commands: %+v, want %+v", tt.descriptors, tt.commands, got, tt.want)
		}
		// A preview's connection needs a second descriptor.
		if used := got.api + 2*got.previews; tt.descriptors > 100 && used > tt.descriptors-min(tt.descriptors*3/4, ownDescriptors+tt.commands*commandDescriptors) {
			t.Errorf("%d descriptors, %d commands: connections take %d", tt.descriptors, tt.commands, used)
		}
	}
}

// Both listeners bound their connections and the time of bodies.
func TestBothListenersAreBounded(t *testing.T) {
	s, _ := start(t, settings(t))
	for _, url := range []string{s.URL(), s.PreviewURL()} {
		addr := strings.TrimPrefix(url, "http://")
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		// A body that is too long to drop is refused before it is read.
		fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\nContent-Length: 70000\r\n\r\n%s", addr, strings.Repeat("x", 70000))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "takes no body") {
			t.Errorf("%s: %d %.200s", url, resp.StatusCode, b)
		}
	}
	if _, limited := s.api.listener.(interface {
		ConnState(net.Conn, http.ConnState)
	}); !limited || s.api.ConnState == nil || s.preview.ConnState == nil {
		t.Error("a listener does not count its connections")
	}
}
