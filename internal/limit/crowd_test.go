package limit

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// room is a crowd that records which members were displaced.
type room struct {
	*Crowd
	displaced []string
}

func newRoom(config CrowdConfig) *room { return &room{Crowd: NewCrowd(config)} }

// enter adds a member that is named after its host, such as 192.0.2.1/a.
func (r *room) enter(name string) *Member {
	addr, _, _ := strings.Cut(name, "/")
	return r.Enter(netip.MustParseAddr(addr), func() { r.displaced = append(r.displaced, name) })
}

func (r *room) want(t *testing.T, idle, active int, displaced ...string) {
	t.Helper()
	if i, a := r.Size(); i != idle || a != active || !slices.Equal(r.displaced, displaced) {
		t.Errorf("%d idle, %d active, displaced %v; want %d, %d, %v", i, a, r.displaced, idle, active, displaced)
	}
}

func TestIdleMembersDisplaceEachOther(t *testing.T) {
	r := newRoom(CrowdConfig{Idle: 3, Active: 3})
	busy := r.enter("192.0.2.1/busy")
	busy.Activate()
	for _, name := range []string{"192.0.2.1/a", "192.0.2.2/b", "192.0.2.3/c", "192.0.2.4/d", "192.0.2.1/e"} {
		r.enter(name)
	}
	r.want(t, 3, 1, "192.0.2.1/a", "192.0.2.2/b")
	busy.Idle() // it becomes idle now: the others have been idle longer
	r.want(t, 3, 0, "192.0.2.1/a", "192.0.2.2/b", "192.0.2.3/c")
}

// Idle members may use the places that active ones leave free, and no more.
func TestTotal(t *testing.T) {
	r := newRoom(CrowdConfig{Active: 2, Total: 4})
	for _, name := range []string{"192.0.2.1/a", "192.0.2.1/b", "192.0.2.1/c", "192.0.2.1/d"} {
		r.enter(name)
	}
	r.want(t, 4, 0)
	r.enter("192.0.2.1/e").Activate()
	r.want(t, 3, 1, "192.0.2.1/a")
	r.enter("192.0.2.1/f").Activate()
	r.enter("192.0.2.1/g")
	r.want(t, 2, 2, "192.0.2.1/a", "192.0.2.1/b", "192.0.2.1/c")
	r.enter("192.0.2.1/h").Activate()
	r.want(t, 1, 2, "192.0.2.1/a", "192.0.2.1/b", "192.0.2.1/c", "192.0.2.1/d", "192.0.2.1/e")
}

func TestOneHostsIdleMembersDisplaceNobodyElse(t *testing.T) {
	r := newRoom(CrowdConfig{Idle: 100, IdlePerHost: 2, Active: 3})
	r.enter("192.0.2.2/honest")
	for _, name := range []string{"192.0.2.1/a", "192.0.2.1/b", "192.0.2.1/c", "192.0.2.1/d"} {
		r.enter(name)
	}
	r.want(t, 3, 0, "192.0.2.1/a", "192.0.2.1/b")
	honest := r.enter("192.0.2.2/another")
	if !honest.Activate() {
		t.Error("the honest host's member was displaced")
	}
}

// The host with the most members loses the one that has been active longest.
func TestActiveMembersOfTheFullestHostGiveWay(t *testing.T) {
	r := newRoom(CrowdConfig{Idle: 10, Active: 3})
	for _, name := range []string{"192.0.2.2/honest", "192.0.2.1/a", "192.0.2.1/b", "192.0.2.1/c", "192.0.2.3/newcomer"} {
		if !r.enter(name).Activate() {
			t.Errorf("%s was not let in", name)
		}
	}
	r.want(t, 0, 3, "192.0.2.1/a", "192.0.2.1/b")
	// Each host has one member now: the one active longest of all is displaced.
	r.enter("192.0.2.4/another").Activate()
	r.want(t, 0, 3, "192.0.2.1/a", "192.0.2.1/b", "192.0.2.2/honest")
}

// Of hosts with equally many members, the member that has been active longest gives
// way, in whatever order the hosts are visited.
func TestActiveLongestOfEqualHostsGivesWay(t *testing.T) {
	for range 50 { // a map's order is random
		r := newRoom(CrowdConfig{Idle: 10, Active: 4})
		for _, name := range []string{"192.0.2.1/a", "192.0.2.2/b", "192.0.2.3/c", "192.0.2.4/d", "192.0.2.5/e"} {
			r.enter(name).Activate()
		}
		r.want(t, 0, 4, "192.0.2.1/a")
	}
}

// All members have one host, as behind a proxy: a new member is accepted all the same.
func TestNewcomerOfTheOnlyHostIsLetIn(t *testing.T) {
	r := newRoom(CrowdConfig{Idle: 10, Active: 2})
	for _, name := range []string{"127.0.0.1/a", "127.0.0.1/b", "127.0.0.1/c"} {
		r.enter(name).Activate()
	}
	r.want(t, 0, 2, "127.0.0.1/a")
}

func TestDisplacedMemberStaysAway(t *testing.T) {
	r := newRoom(CrowdConfig{Idle: 1, Active: 1})
	a := r.enter("192.0.2.1/a")
	r.enter("192.0.2.1/b")
	if a.Activate() {
		t.Error("a displaced member became active")
	}
	a.Idle()
	a.Leave()
	r.want(t, 1, 0, "192.0.2.1/a")
}

func TestLeave(t *testing.T) {
	r := newRoom(CrowdConfig{Idle: 5, Active: 5})
	members := []*Member{r.enter("192.0.2.1/a"), r.enter("192.0.2.1/b"), r.enter("192.0.2.1/c")}
	members[1].Activate()
	members[1].Activate() // again: it changes nothing
	r.want(t, 2, 1)
	for _, m := range members {
		m.Leave()
		m.Leave()
	}
	r.want(t, 0, 0)
	if len(r.hosts) != 0 {
		t.Errorf("%d hosts are remembered", len(r.hosts))
	}
	if r.Displace() {
		t.Error("somebody was displaced from an empty crowd")
	}
	var none *Member // a nil Member has no place, and its methods do nothing
	none.Activate()
	none.Idle()
	none.Leave()
}

func TestDisplaceTakesTheIdleFirst(t *testing.T) {
	r := newRoom(CrowdConfig{Idle: 5, Active: 5})
	r.enter("192.0.2.1/active").Activate()
	r.enter("192.0.2.2/idle")
	for range 2 {
		if !r.Displace() {
			t.Error("nobody was displaced")
		}
	}
	r.want(t, 0, 0, "192.0.2.2/idle", "192.0.2.1/active")
}

func TestFullIsToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		c := NewCrowd(CrowdConfig{Idle: 5, Active: 1, Full: func() { told++ }})
		for range 3 {
			c.Enter(netip.Addr{}, func() {}).Activate()
		}
		if told != 1 {
			t.Errorf("told %d times", told)
		}
		time.Sleep(time.Minute)
		c.Enter(netip.Addr{}, func() {}).Activate()
		if told != 2 {
			t.Errorf("told %d times after a minute", told)
		}
	})
}

func TestHostOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8:0:1:2:3:4:5": "2001:db8:0:1::", "fe80::1%eth0": "fe80::",
	} {
		if got := HostOf(netip.MustParseAddr(addr)); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if HostOf(netip.Addr{}).IsValid() {
		t.Error("no address became one")
	}
}
