package browsertest

import (
	"fmt"
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

// TestTheServerIsKilled kills the server with SIGKILL in mid-build, while events are
// being reported.
func TestTheServerIsKilled(t *testing.T) {
	t.Parallel()
	node := newNode(t)
	node.start(t)
	// If the server returns between two attempts, the client may open a lower transport first.
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

// TestTheClientSleeps makes a client miss 10 s of a build.
func TestTheClientSleeps(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	for _, tt := range []struct {
		name        string
		sleep, wake func(*testing.T, *visit)
	}{
		{
			"its page is frozen",
			func(t *testing.T, v *visit) { v.browser.freeze(t, v.tabs[0]) },
			func(t *testing.T, v *visit) { v.browser.thaw(t, v.tabs[0]) },
		},
		{
			"its computer is suspended, and its connection dies silently",
			func(t *testing.T, v *visit) { v.browser.suspend(t); v.network.lossy.Store(true) },
			func(t *testing.T, v *visit) { v.network.lossy.Store(false); v.browser.resume(t) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := open(t, server, fault{}, 1)
			v.report(t, 400*time.Millisecond, func(reported int) {
				switch reported {
				case 20:
					await(t, v, v.network.opened, "the page has a WebSocket")
					tt.sleep(t, v)
				case 280: // 26 times 400 ms
					tt.wake(t, v)
				}
			})
			if got := v.check(t, "websocket", "websocket"); got[0].Slept < 10_000 {
				t.Errorf("the page slept for %d ms only", got[0].Slept)
			}
			if n := v.network.sockets.Load(); n < 2 {
				t.Errorf("%d WebSocket, want one before the sleep and one after it", n)
			}
		})
	}
}

// TestTheNetworkHeals makes the client change to a better transport while events
// arrive over the old one. The network is slow, so that both carry the same events.
func TestTheNetworkHeals(t *testing.T) {
	t.Parallel()
	v := open(t, startServer(t), fault{delay: 300 * time.Millisecond, refuseWebSocket: true}, 1, "timing", `{"probe":500}`)
	v.report(t, usualPace, func(reported int) {
		if reported == 100 {
			v.network.healed.Store(true)
		}
	})
	v.check(t, "sse", "websocket")
}

func TestTabsShareOneConnection(t *testing.T) {
	t.Parallel()
	v := open(t, startServer(t), fault{}, 8)
	v.report(t, usualPace, func(reported int) {
		if reported == beforeTheEnd {
			v.checkConnections(t, 1)
		}
	})
	got := v.check(t, "websocket", "websocket")
	if shared := slices.DeleteFunc(got, func(s seen) bool { return !s.Shared }); len(shared) != 7 {
		t.Errorf("%d of 8 tabs shared another's connection, want 7", len(shared))
	}
}

// TestTheLeadingTabIsClosed closes the tab that has the connection in mid-build. Then
// it opens another tab, which must read the earlier events while new ones arrive.
func TestTheLeadingTabIsClosed(t *testing.T) {
	t.Parallel()
	v := open(t, startServer(t), fault{delay: 300 * time.Millisecond}, 1)
	v.openTabs(t, 2)
	v.report(t, usualPace, func(reported int) {
		switch reported {
		case 100:
			v.closeTab(t)
		case 200:
			v.openTabs(t, 1)
		case beforeTheEnd:
			for _, tab := range v.tabs {
				v.browser.await(t, tab, fmt.Sprintf("build.lastEventId >= %d", beforeTheEnd))
			}
			v.checkConnections(t, 2) // of the tab that was closed, and of the next
		}
	})
	v.check(t, "websocket", "websocket")
}
