package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// socket is one subscriber's connection. It reads no JSON: thousands of them run
// beside the server that is measured.
type socket struct {
	net.Conn
	in io.Reader
}

// subscribe connects and subscribes to a build after an event. buffer, where it is
// not 0, is the size of the receive buffer in bytes.
func subscribe(ctx context.Context, addr, build string, after int64, buffer int) (*socket, error) {
	dialer := ws.Dialer{NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if err == nil && buffer > 0 {
			_ = c.(*net.TCPConn).SetReadBuffer(buffer)
		}
		return c, err
	}}
	conn, buffered, _, err := dialer.Dial(ctx, "ws://"+addr+"/socket.io/?EIO=4&transport=websocket")
	if err != nil {
		return nil, err
	}
	s := &socket{Conn: conn, in: buffered}
	if buffered == nil {
		s.in = bufio.NewReaderSize(conn, 4096)
	}
	for _, step := range []struct{ wait, send string }{
		{"0", "40"}, {"40", fmt.Sprintf(`420["subscribe",{"buildId":%q,"lastEventId":%d}]`, build, after)}, {"430", ""},
	} {
		packet, err := s.read()
		if err != nil || !bytes.HasPrefix(packet, []byte(step.wait)) || bytes.Contains(packet, []byte(`"error":{"code"`)) {
			conn.Close()
			return nil, fmt.Errorf("%.200s in place of %s: %w", packet, step.wait, err)
		}
		if step.send != "" {
			if err := wsutil.WriteClientText(conn, []byte(step.send)); err != nil {
				conn.Close()
				return nil, err
			}
		}
	}
	return s, nil
}

// read returns the next packet, and answers pings.
func (s *socket) read() ([]byte, error) {
	for {
		packet, err := wsutil.ReadServerText(struct {
			io.Reader
			io.Writer
		}{s.in, s.Conn})
		if err != nil {
			return nil, err
		}
		if string(packet) != "2" {
			return packet, nil
		}
		if err := wsutil.WriteClientText(s.Conn, []byte("3")); err != nil {
			return nil, err
		}
	}
}

// update is what an update says: the ids of its first and last event, and when the
// last one was sent.
type update struct {
	first, last int64
	sent        time.Time
}

// next returns the next update.
func (s *socket) next() (update, error) {
	for {
		packet, err := s.read()
		if err != nil {
			return update{}, err
		}
		if bytes.HasPrefix(packet, []byte(`42["update"`)) {
			return update{
				first: number(packet, bytes.Index(packet, []byte(`{"id":`))+6),
				last:  number(packet, bytes.LastIndex(packet, []byte(`{"id":`))+6),
				sent:  time.Unix(0, number(packet, max(lastSent(packet), 0))),
			}, nil
		}
	}
}

// lastSent is where the number of the last "sent" begins: a store may have put a
// space before it.
func lastSent(packet []byte) int {
	at := bytes.LastIndex(packet, []byte(`"sent":`)) + 7
	for at < len(packet) && packet[at] == ' ' {
		at++
	}
	return at
}

func number(text []byte, at int) int64 {
	end := at
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	n, _ := strconv.ParseInt(string(text[at:end]), 10, 64)
	return n
}
