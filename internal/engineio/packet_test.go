package engineio

import (
	"bytes"
	"errors"
	"math"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

func TestDecodePart(t *testing.T) {
	tests := []struct {
		in   string
		want packet
		err  error
	}{
		{"0", packet{kind: typeOpen}, nil},
		{"1", packet{kind: typeClose}, nil},
		{"2probe", packet{kind: typePing, data: []byte("probe")}, nil},
		{"3", packet{kind: typePong}, nil},
		{"4hé", packet{kind: typeMessage, data: []byte("hé")}, nil},
		{"4", packet{kind: typeMessage}, nil},
		{"5", packet{kind: typeUpgrade}, nil},
		{"6", packet{kind: typeNoop}, nil},
		{"bAQIDBA==", packet{kind: typeMessage, binary: true, data: []byte{1, 2, 3, 4}}, nil},
		{"b", packet{kind: typeMessage, binary: true}, nil},
		{"", packet{}, errEmptyPacket},
		{"7", packet{}, errPacketType},
		{"abc", packet{}, errPacketType},
		{"4\xff", packet{}, errUTF8},
		{"b*", packet{}, errBase64},
		{"bAQID", packet{kind: typeMessage, binary: true, data: []byte{1, 2, 3}}, nil},
		{"bAQI", packet{}, errBase64},
	}
	for _, tt := range tests {
		got, err := decodePart([]byte(tt.in))
		if !errors.Is(err, tt.err) || got.kind != tt.want.kind || got.binary != tt.want.binary || !bytes.Equal(got.data, tt.want.data) {
			t.Errorf("%q: got %+v, %v; want %+v, %v", tt.in, got, err, tt.want, tt.err)
		}
	}
}

func TestPayloadStopsAtTheFirstError(t *testing.T) {
	var got []string
	for p, err := range payload([]byte("4a\x1ebAQ==\x1e9\x1e4b")) {
		if err != nil {
			got = append(got, "error")
			continue
		}
		got = append(got, string(p.data))
	}
	if want := "a \x01 error"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, " "), want)
	}
}

func TestFrameForms(t *testing.T) {
	for _, n := range []int{0, 1, 124, 125, 126, 65534, 65535, 65536} {
		data := bytes.Repeat([]byte{'x'}, n)
		for _, f := range []*Frame{NewFrame(data[:n/2], data[n/2:]), NewBinaryFrame(data)} {
			back, err := ws.ReadFrame(bytes.NewReader(f.webSocket(false, 0)))
			if err != nil || !back.Header.Fin || back.Header.Masked || back.Header.OpCode != f.opcode {
				t.Fatalf("%d: %+v, %v", n, back.Header, err)
			}
			if !bytes.Equal(back.Payload, f.packet()) {
				t.Errorf("%d: the WebSocket's payload is not the packet", n)
			}
			p, err := decodePart(f.polling())
			if err != nil || p.kind != typeMessage || p.binary != (f.opcode == ws.OpBinary) || !bytes.Equal(p.data, data) {
				t.Errorf("%d: the polling form does not decode to the data: %v", n, err)
			}
		}
	}
}

func TestFrameIsCompressedOnce(t *testing.T) {
	data := []byte(strings.Repeat(`{"type":"task_completed"}`, 100))
	f := NewFrame(data)
	first, again := f.webSocket(true, 1024), f.webSocket(true, 1024)
	if &first[0] != &again[0] {
		t.Error("two sessions do not share the compressed frame")
	}
	back, err := ws.ReadFrame(bytes.NewReader(first))
	if err != nil || !back.Header.Rsv1() || len(back.Payload) >= len(data) {
		t.Fatalf("%+v, %d bytes, %v", back.Header, len(back.Payload), err)
	}
	plain, err := inflate(back.Payload, len(data)+1)
	if err != nil || !bytes.Equal(plain, f.packet()) {
		t.Errorf("the frame does not inflate to the packet: %v", err)
	}
	if short := NewFrame([]byte("aaaaaaaaaaaaaaaaaaaa")); &short.webSocket(true, 1024)[0] != &short.plain[0] {
		t.Error("a packet below the threshold was compressed")
	}
}

func TestInflateLimit(t *testing.T) {
	bomb := deflate(bytes.Repeat([]byte{0}, 1<<20))
	if _, err := inflate(bomb, 1<<20-1); !errors.Is(err, errInflatedTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	if out, err := inflate(bomb, 1<<20); err != nil || len(out) != 1<<20 {
		t.Errorf("at the limit: %d bytes, %v", len(out), err)
	}
	if _, err := inflate([]byte{0xff, 0xff}, 10); err == nil {
		t.Error("garbage was inflated")
	}
}

// A decoded payload must encode to the same bytes, however it is split.
func FuzzPayload(f *testing.F) {
	for _, s := range []string{"4hello", "4a\x1e4b", "bAQIDBA==", "4a\x1ebAQ==\x1e2probe", "\x1e", "", "4\xff", "b*"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var frames []*Frame
		for p, err := range payload(body) {
			if err != nil {
				return
			}
			if p.binary {
				frames = append(frames, NewBinaryFrame(p.data))
			} else {
				frames = append(frames, newFrame(p.kind, p.data))
			}
		}
		recorder := httptest.NewRecorder()
		writePayload(recorder, frames)
		again := recorder.Body.Bytes()
		if recorder.Header().Get("Content-Length") != strconv.Itoa(len(again)) {
			t.Fatalf("%d bytes are announced as %s", len(again), recorder.Header().Get("Content-Length"))
		}
		i := 0
		for p, err := range payload(again) {
			if err != nil {
				t.Fatalf("%q encodes to %q, which does not decode: %v", body, again, err)
			}
			if want := frames[i]; p.binary != (want.opcode == ws.OpBinary) || !bytes.HasSuffix(want.packet(), p.data) {
				t.Fatalf("%q encodes to %q: packet %d differs", body, again, i)
			}
			i++
		}
		if i != len(frames) {
			t.Fatalf("%q has %d packets, encoded %d", body, len(frames), i)
		}
	})
}

func FuzzDecodeText(f *testing.F) {
	for _, s := range []string{"0{}", "4", "3probe", "", "x", "4\xc3\x28"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodeText(b)
		if err == nil && !bytes.Equal(newFrame(p.kind, p.data).packet(), b) {
			t.Fatalf("%q does not encode to itself", b)
		}
	})
}

// Compressors are large: messages reuse them.
func TestCompressorsAreShared(t *testing.T) {
	plain := bytes.Repeat([]byte("abc"), 1000)
	packed := deflate(plain)
	if n := bytesOf(func() { deflate(plain) }); n > 500_000 { // a compressor alone has 800,000
		t.Errorf("compressing takes %d bytes each time", n)
	}
	if n := bytesOf(func() { _, _ = inflate(packed, len(plain)) }); n > 45_000 { // a decompressor alone has 42,000
		t.Errorf("inflating takes %d bytes each time", n)
	}
}

// bytesOf returns how much memory a call of f takes. It is the least of several
// measurements: the collector empties pools, and the race detector forgets a
// part of what is put into them.
func bytesOf(f func()) uint64 {
	const calls = 40
	least := uint64(math.MaxUint64)
	for range 10 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range calls {
			f()
		}
		runtime.ReadMemStats(&after)
		least = min(least, (after.TotalAlloc-before.TotalAlloc)/calls)
	}
	return least
}
