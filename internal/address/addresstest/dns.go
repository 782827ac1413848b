// Package addresstest has a name server for tests of who may be reached.
package addresstest

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// DNS is a real name server on loopback.
type DNS struct {
	conn net.PacketConn

	mu      sync.Mutex
	names   map[string][][]netip.Addr // answers in turn; the last one stays
	asked   map[string]int            // questions for IPv4 addresses
	failing bool                      // answers SERVFAIL
}

// NewDNS starts a name server that knows no name.
func NewDNS(t *testing.T) *DNS {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &DNS{conn: conn, names: map[string][][]netip.Addr{}, asked: map[string]int{}}
	var serving sync.WaitGroup
	serving.Go(s.serve)
	t.Cleanup(func() { conn.Close(); serving.Wait() })
	return s
}

// Resolver asks this server and no other.
func (s *DNS) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

// Answer sets what name resolves to, one argument for each time it is asked for.
func (s *DNS) Answer(name string, turns ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name+"."] = nil
	for _, turn := range turns {
		var addrs []netip.Addr
		for a := range strings.FieldsSeq(turn) {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		s.names[name+"."] = append(s.names[name+"."], addrs)
	}
}

// TimesAsked is how often the name was asked for.
func (s *DNS) TimesAsked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name+"."]
}

// Fail makes it answer SERVFAIL to everything.
func (s *DNS) Fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = true
}

func (s *DNS) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply := s.reply(buf[:n]); reply != nil {
			_, _ = s.conn.WriteTo(reply, from)
		}
	}
}

const typeA, typeAAAA = 1, 28

func (s *DNS) reply(query []byte) []byte {
	name, end := question(query)
	if end == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := binary.BigEndian.Uint16(query[end-4:])
	addrs, known := s.next(name, kind)
	reply := append([]byte(nil), query[:end]...)
	copy(reply[2:], []byte{0x84, 0x00, 0, 1, 0, 0, 0, 0, 0, 0}) // an authoritative answer to one question
	switch {
	case s.failing:
		reply[3] = 2
	case !known:
		reply[3] = 3
	}
	for _, a := range addrs {
		reply[7]++
		reply = append(reply, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(a.BitLen()/8))
		reply = append(reply, a.AsSlice()...)
	}
	return reply
}

// next is the addresses of a kind. IPv4 and IPv6 are asked for at the same time;
// the turns are counted by the former.
func (s *DNS) next(name string, kind uint16) (addrs []netip.Addr, known bool) {
	turns, known := s.names[name]
	if !known || s.failing || kind != typeA && kind != typeAAAA {
		return nil, known
	}
	turn := 0
	if kind == typeA {
		turn = min(s.asked[name], len(turns)-1)
		s.asked[name]++
	}
	for _, a := range turns[turn] {
		if a.Is4() == (kind == typeA) {
			addrs = append(addrs, a)
		}
	}
	return addrs, true
}

// question is the query's lower-case name, and where its question ends.
func question(query []byte) (name string, end int) {
	at := 12
	for at < len(query) && query[at] != 0 {
		next := at + 1 + int(query[at])
		if next >= len(query) {
			return "", 0
		}
		name += strings.ToLower(string(query[at+1:next])) + "."
		at = next
	}
	if at+5 > len(query) {
		return "", 0
	}
	return name, at + 5
}
