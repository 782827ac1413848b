package limit

import (
	"math"
	"net/netip"
	"sync"
	"time"
)

// Crowd bounds how many members exist at once. A member is idle until it is
// activated. A new member is never refused; when there are too many, another member
// is displaced:
//
//   - too many idle members of one host: the one that has been idle longest, of that host
//   - too many idle members, or members in all: the one that has been idle longest
//   - too many active members: the one that has been active longest, of the host that has most
//
// So clients that stay idle displace each other, and a host with many members
// displaces its own members first.
type Crowd struct {
	config CrowdConfig

	mu     sync.Mutex
	hosts  map[netip.Addr]*host
	idle   list // of all hosts, the one idle longest first
	active int
	clock  uint64    // counts activations
	warned time.Time // when Full was called last
}

// CrowdConfig holds the bounds of a Crowd.
type CrowdConfig struct {
	Active      int // members that are active
	Total       int // members that are active or idle, more than Active; 0: Idle bounds the others
	Idle        int // members that are idle; 0: Total bounds them
	IdlePerHost int // members of one host that are idle; 0: as many as of all hosts
	// Full, if set, is called when an active member is displaced, at most once a
	// minute. It must not use the Crowd.
	Full func()
}

// Member is one connection or session of a Crowd.
type Member struct {
	crowd    *Crowd
	displace func()

	// crowd.mu guards the rest.
	host   *host
	state  state
	since  uint64 // the clock's value when it became active
	places [2]place
}

type state int8

const (
	idle state = iota
	active
	gone
)

// host is the members of one address.
type host struct {
	addr         netip.Addr
	idle, active list
}

// NewCrowd makes an empty crowd.
func NewCrowd(config CrowdConfig) *Crowd {
	for _, bound := range []*int{&config.Total, &config.Idle, &config.IdlePerHost} {
		if *bound <= 0 {
			*bound = math.MaxInt
		}
	}
	return &Crowd{config: config, hosts: make(map[netip.Addr]*host), idle: list{kind: ofAll}}
}

// HostOf returns the part of a client's address that identifies its host: the whole
// IPv4 address, or the /64 network of an IPv6 address.
func HostOf(addr netip.Addr) netip.Addr {
	if addr = addr.Unmap().WithZone(""); !addr.Is6() {
		return addr
	}
	network, err := addr.Prefix(64)
	if err != nil { // not possible: 64 is within an IPv6 address
		return addr
	}
	return network.Addr()
}

// Enter adds an idle member and displaces another if there are too many.
// displace is called at most once, without a lock held, when this member is
// displaced; it must close the connection or session.
func (c *Crowd) Enter(addr netip.Addr, displace func()) *Member {
	m := &Member{crowd: c, displace: displace}
	c.mu.Lock()
	addr = HostOf(addr)
	m.host = c.hosts[addr]
	if m.host == nil {
		m.host = &host{addr: addr, idle: list{kind: ofHost}, active: list{kind: ofHost}}
		c.hosts[addr] = m.host
	}
	c.addIdle(m)
	victim := c.tooManyIdle(m.host)
	c.mu.Unlock()
	victim.leave()
	return m
}

// Activate moves the member from the idle to the active members and displaces
// another active member if there are too many. It returns false if the member itself
// has been displaced.
func (m *Member) Activate() bool {
	if m == nil {
		return true
	}
	c := m.crowd
	c.mu.Lock()
	if m.state != idle {
		defer c.mu.Unlock()
		return m.state == active
	}
	c.removeIdle(m)
	m.state, m.since = active, c.clock
	c.clock++
	m.host.active.push(m)
	c.active++
	victim := c.tooManyActive()
	warn := victim != nil && c.config.Full != nil && time.Since(c.warned) >= time.Minute
	if warn {
		c.warned = time.Now()
	}
	c.mu.Unlock()
	if warn {
		c.config.Full()
	}
	victim.leave()
	return true
}

// Idle moves the member from the active to the idle members and displaces another
// idle member if there are too many.
func (m *Member) Idle() {
	if m == nil {
		return
	}
	c := m.crowd
	c.mu.Lock()
	if m.state != active {
		c.mu.Unlock()
		return
	}
	c.removeActive(m)
	c.addIdle(m)
	victim := c.tooManyIdle(m.host)
	c.mu.Unlock()
	victim.leave()
}

// Leave removes the member. Further calls do nothing.
func (m *Member) Leave() {
	if m == nil {
		return
	}
	m.crowd.mu.Lock()
	defer m.crowd.mu.Unlock()
	m.crowd.remove(m)
}

// Displace displaces one member, an idle one if possible. It returns false
// if the crowd is empty.
func (c *Crowd) Displace() bool {
	c.mu.Lock()
	victim := c.idle.first
	if victim == nil {
		victim = c.longestActive()
	}
	c.remove(victim)
	c.mu.Unlock()
	victim.leave()
	return victim != nil
}

// Size returns how many members are idle and how many are active.
func (c *Crowd) Size() (idle, active int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.idle.n, c.active
}

// leave calls the displaced member's displace. It does nothing for nil.
func (m *Member) leave() {
	if m != nil {
		m.displace()
	}
}

// tooManyIdle removes and returns the idle member to be displaced after one of
// h was added, nil if there are not too many. mu is held, as for all below.
func (c *Crowd) tooManyIdle(h *host) (victim *Member) {
	switch {
	case h.idle.n > c.config.IdlePerHost:
		victim = h.idle.first
	case c.idle.n > c.config.Idle, c.idle.n+c.active > c.config.Total:
		victim = c.idle.first
	}
	c.remove(victim)
	return victim
}

func (c *Crowd) tooManyActive() (victim *Member) {
	if c.active > c.config.Active {
		victim = c.longestActive()
	}
	c.remove(victim)
	return victim
}

// longestActive returns the member that has been active longest, of the host with
// the most members. If several hosts have that many, it considers the members of all
// of them.
func (c *Crowd) longestActive() (longest *Member) {
	for _, h := range c.hosts {
		m := h.active.first
		switch {
		case m == nil:
		case longest == nil, h.active.n > longest.host.active.n,
			h.active.n == longest.host.active.n && m.since < longest.since:
			longest = m
		}
	}
	return longest
}

func (c *Crowd) remove(m *Member) {
	switch {
	case m == nil || m.state == gone:
		return
	case m.state == active:
		c.removeActive(m)
	default:
		c.removeIdle(m)
	}
	m.state = gone
	if m.host.idle.n+m.host.active.n == 0 {
		delete(c.hosts, m.host.addr)
	}
}

func (c *Crowd) addIdle(m *Member) {
	m.state = idle
	c.idle.push(m)
	m.host.idle.push(m)
}

func (c *Crowd) removeIdle(m *Member) {
	c.idle.remove(m)
	m.host.idle.remove(m)
}

func (c *Crowd) removeActive(m *Member) {
	m.host.active.remove(m)
	c.active--
}

// The kinds of lists: a member is in at most one of each.
const (
	ofAll = iota
	ofHost
)

// list is a queue of members that any of them can leave.
type list struct {
	kind        int
	first, last *Member
	n           int
}

type place struct{ prev, next *Member }

func (l *list) push(m *Member) {
	m.places[l.kind] = place{prev: l.last}
	if l.last == nil {
		l.first = m
	} else {
		l.last.places[l.kind].next = m
	}
	l.last = m
	l.n++
}

func (l *list) remove(m *Member) {
	p := m.places[l.kind]
	if p.prev == nil {
		l.first = p.next
	} else {
		p.prev.places[l.kind].next = p.next
	}
	if p.next == nil {
		l.last = p.prev
	} else {
		p.next.places[l.kind].prev = p.prev
	}
	m.places[l.kind] = place{}
	l.n--
}
