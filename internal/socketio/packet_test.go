package socketio

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	tests := []struct{ in, want string }{
		{`0`, `0 /`},
		{`0{"token":"123"}`, `0 / {"token":"123"}`},
		{`0/custom,`, `0 /custom`},
		{`0/custom`, `0 /custom`},
		{`0/custom,{"a":1}`, `0 /custom {"a":1}`},
		{`1`, `1 /`},
		{`1/admin,`, `1 /admin`},
		{`2["hello",1,{"b":[true]}]`, `2 / hello 1 {"b":[true]}`},
		{`2/admin,456["hello"]`, `2 /admin #456 hello`},
		{`2[5,"x"]`, `2 / 5 "x"`},
		{`2[-1.5e3]`, `2 / -1.5e3`},
		{`2["",1]`, `2 /  1`},
		{`20["x"]`, `2 / #0 x`},
		{`218446744073709551615["x"]`, `2 / #18446744073709551615 x`},
		{`312[]`, `3 / #12`},
		{`3/admin,456["a",1]`, `3 /admin #456 "a" 1`},
		{`51-["hello",{"_placeholder":true,"num":0}]`, `2 / +1 hello {"_placeholder":true,"num":0}`},
		{`510-/admin,456["x"]`, `2 /admin #456 +10 x`},
		{`50-["x"]`, `2 / x`},
		{`61-/admin,456[{"_placeholder":true,"num":0}]`, `3 /admin #456 +1 {"_placeholder":true,"num":0}`},
		{`4{"message":"no"}`, `4 / {"message":"no"}`},
	}
	for _, tt := range tests {
		p, err := decode([]byte(tt.in), maxAttachments)
		if got := show(p); err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

func show(p packet) string {
	s := string(p.kind) + " " + p.namespace
	if p.hasAckID {
		s += " #" + strconv.FormatUint(p.ackID, 10)
	}
	if p.attachments > 0 {
		s += fmt.Sprintf(" +%d", p.attachments)
	}
	if p.kind == typeEvent {
		s += " " + p.event
	}
	if p.payload != nil {
		s += " " + string(p.payload)
	}
	for _, arg := range p.args {
		s += " " + string(arg)
	}
	return s
}

func TestDecodeRefuses(t *testing.T) {
	tests := []struct {
		in  string
		err error
	}{
		{``, errType},
		{`7`, errType},
		{`abc`, errType},
		{`2`, errPayload},
		{`2{}`, errPayload},
		{`2"x"`, errPayload},
		{`2[]`, errPayload},
		{`2[null]`, errPayload},
		{`2[{}]`, errPayload},
		{`2[true]`, errPayload},
		{`2["x"`, errPayload},
		{`2["x"]]`, errPayload},
		{`2["x",]`, errPayload},
		{`2abc["x"]`, errPayload},
		{`218446744073709551616["x"]`, errAckID},
		{`0[]`, errPayload},
		{`0"x"`, errPayload},
		{`0{`, errPayload},
		{`0null`, errPayload},
		{`1"x"`, errPayload},
		{`1{}`, errPayload},
		{`3`, errPayload},
		{`31{}`, errPayload},
		{`5["x"]`, errAttachments},
		{`5-["x"]`, errAttachments},
		{`5x-["x"]`, errAttachments},
		{`5-1-["x"]`, errAttachments},
		{`51.0-["x"]`, errAttachments},
		{`511-["x"]`, errAttachments},
		{`5999999999999999999999-["x"]`, errAttachments},
		{`2["connect"]`, errReserved},
		{`2["connect_error"]`, errReserved},
		{`2["disconnect"]`, errReserved},
		{`2["disconnecting"]`, errReserved},
		{`2["newListener"]`, errReserved},
		{`2["removeListener"]`, errReserved},
		{`2["\u0063onnect"]`, errReserved},
		{`51-["disconnect",{"_placeholder":true,"num":0}]`, errReserved},
	}
	for _, tt := range tests {
		if p, err := decode([]byte(tt.in), maxAttachments); !errors.Is(err, tt.err) {
			t.Errorf("%s: got %q, %v; want %v", tt.in, show(p), err, tt.err)
		}
	}
}

func TestPlaceholders(t *testing.T) {
	tests := []struct {
		arg string
		n   int
		ok  bool
	}{
		{`{"_placeholder":true,"num":0}`, 1, true},
		{`{"a":[{"_placeholder":true,"num":1}]}`, 2, true},
		{`{"_placeholder":false,"num":9}`, 1, true},
		{`"x"`, 1, true},
		{`{"_placeholder":true,"num":1}`, 1, false},
		{`{"_placeholder":true,"num":-1}`, 1, false},
		{`{"_placeholder":true,"num":0.5}`, 1, false},
		{`{"_placeholder":true,"num":"0"}`, 1, false},
		{`{"_placeholder":true}`, 1, false},
		{`[[{"b":{"_placeholder":true,"num":7}}]]`, 2, false},
	}
	for _, tt := range tests {
		if err := checkPlaceholders([]json.RawMessage{json.RawMessage(tt.arg)}, tt.n); (err == nil) != tt.ok {
			t.Errorf("%s of %d: %v", tt.arg, tt.n, err)
		}
	}
}

func TestFrames(t *testing.T) {
	p, err := NewPayload(1, "2", map[string]any{"a": true}, json.RawMessage(`[null]`))
	if err != nil {
		t.Fatal(err)
	}
	binary, err := NewPayload([]byte{1, 2}, "x", []byte{3})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		frames []*Frame
		want   string
	}{
		{p.event("/", "e"), `2["e",1,"2",{"a":true},[null]]`},
		{p.event("/n", "e\"<"), `2/n,["e\"\u003c",1,"2",{"a":true},[null]]`},
		{p.ack("/", 0), `30[1,"2",{"a":true},[null]]`},
		{p.ack("/n", 7), `3/n,7[1,"2",{"a":true},[null]]`},
		{(&Payload{}).ack("/", 7), `37[]`},
		{(&Payload{}).event("/", ""), `2[""]`},
		{binary.event("/n", "e"), `52-/n,["e",{"_placeholder":true,"num":0},"x",{"_placeholder":true,"num":1}]`},
		{binary.ack("/", 7), `62-7[{"_placeholder":true,"num":0},"x",{"_placeholder":true,"num":1}]`},
		{[]*Frame{NewFrame("/", "update", json.RawMessage(`{"a":1}`))}, `2["update",{"a":1}]`},
	}
	for _, tt := range tests {
		if got := tt.frames[0].Size() - 1; got != len(tt.want) {
			t.Errorf("%s: %d bytes", tt.want, got)
		}
		p, err := decode([]byte(tt.want), maxAttachments)
		if err != nil || p.attachments != len(tt.frames)-1 {
			t.Errorf("%s: %v, %d attachments in %d frames", tt.want, err, p.attachments, len(tt.frames))
		}
	}
	if _, err := NewPayload(1, make(chan int)); err == nil || !strings.Contains(err.Error(), "argument 1") {
		t.Errorf("a channel was encoded: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{`0`, `0/custom,{"a":1}`, `1/a`, `2["hello",1]`, `2/n,12["x",{}]`, `31[]`, `51-["x",{"_placeholder":true,"num":0}]`, `61-/n,4[{}]`, `2["connect"]`, `4"x"`, `2[1e5]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decode(b, maxAttachments)
		if err != nil {
			return
		}
		if p.attachments > maxAttachments || p.kind == typeEvent && isReserved(p.event) {
			t.Fatalf("%q was taken: %q", b, show(p))
		}
		if p.kind != typeEvent || !bytes.Contains(b, []byte{'"'}) || b[bytes.IndexByte(b, '[')+1] != '"' {
			return // a number as the name is encoded as a string
		}
		again := appendEvent(appendHead(nil, p.kind, p.attachments, p.namespace), p.event, p.args)
		if p.hasAckID {
			return
		}
		back, err := decode(again, maxAttachments)
		if err != nil || show(back) != show(p) {
			t.Fatalf("%q encodes to %q: %q, %v", b, again, show(back), err)
		}
	})
}
