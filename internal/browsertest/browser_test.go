package browsertest

import (
	"slices"
	"testing"
	"time"
)

func TestTheClientFallsBack(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	for _, tt := range []struct {
		name        string
		fault       fault
		first, last string // the transport that opens first, and the one that carries the end
	}{
		{"clean", fault{}, "websocket", "websocket"},
		{"WebSocket refused", fault{refuseWebSocket: true}, "sse", "sse"},
		{"WebSocket cut every 300 ms", fault{cutWebSocket: 300 * time.Millisecond}, "websocket", "sse"},
		{"streams held back", fault{refuseWebSocket: true, holdStreams: true}, "longpoll", "longpoll"},
		{"streams cut every 300 ms", fault{refuseWebSocket: true, cutStreams: 300 * time.Millisecond}, "sse", "longpoll"},
		{"only short polls", fault{refuseWebSocket: true, refuseStreams: true, refuseWaiting: true}, "poll", "poll"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := open(t, server, tt.fault, 1)
			v.report(t, usualPace, nil)
			v.check(t, tt.first, tt.last)
		})
	}
}

// TestTheServerIsKilled kills the server with SIGKILL in mid-build; events are
// reported all the while.
func TestTheServerIsKilled(t *testing.T) {
	t.Parallel()
	node := newNode(t)
	node.start(t)
	// Where the server returns between two tries, the client may stand on a lower transport first.
	v := open(t, node.url, fault{}, 1, "timing", `{"probe":500}`)
	v.report(t, usualPace, func(reported int) {
		switch reported {
		case 10:
			await(t, v, v.network.opened, "the page has a WebSocket")
		case 100:
			node.kill()
		case 150:
			node.start(t)
		case 200:
			await(t, v, v.network.opened, "the page has a WebSocket again")
		}
	})
	v.check(t, "websocket", "websocket")
}

// TestTheClientSleeps freezes the page for 10 s of a build, as a phone does with
// a page in the background, and a laptop with all of them.
func TestTheClientSleeps(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	for _, tt := range []struct {
		name string
		lost bool // whether the WebSocket dies meanwhile, without a word
	}{{"its connection lives", false}, {"its connection dies", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := open(t, server, fault{}, 1)
			v.report(t, 400*time.Millisecond, func(reported int) {
				switch reported {
				case 20:
					await(t, v, v.network.opened, "the page has a WebSocket")
					v.network.lossy.Store(tt.lost)
					v.browser.freeze(t, v.tabs[0])
				case 280: // 26 times 400 ms
					v.network.lossy.Store(false)
					v.browser.wake(t, v.tabs[0])
				}
			})
			got := v.check(t, "websocket", "websocket")
			if got[0].Slept < 10_000 {
				t.Errorf("the page slept for %d ms only", got[0].Slept)
			}
			if n := v.network.sockets.Load(); tt.lost && n != 2 {
				t.Errorf("%d WebSockets, want the one that died and one more", n)
			}
		})
	}
}

func TestTabsShareOneConnection(t *testing.T) {
	t.Parallel()
	v := open(t, startServer(t), fault{}, 8)
	v.report(t, usualPace, nil)
	got := v.check(t, "websocket", "websocket")
	shared := slices.DeleteFunc(got, func(s seen) bool { return !s.Shared })
	if n := v.network.connections(); n != 1 || len(shared) != 7 {
		t.Errorf("8 tabs had %d connections, and %d of them shared; want 1 and 7", n, len(shared))
	}
}

// TestTheLeadingTabIsClosed closes the tab that has the connection in mid-build,
// and opens another that has to learn what it missed.
func TestTheLeadingTabIsClosed(t *testing.T) {
	t.Parallel()
	v := open(t, startServer(t), fault{}, 1)
	v.openTabs(t, 2)
	v.report(t, usualPace, func(reported int) {
		switch reported {
		case 100:
			v.closeTab(t)
		case 200:
			v.openTabs(t, 1)
		}
	})
	v.check(t, "websocket", "websocket")
	if n := v.network.connections(); n != 2 {
		t.Errorf("%d connections, want one of the tab that was closed and one of the next", n)
	}
}
