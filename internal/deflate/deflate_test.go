package deflate

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The standard library's reader returns any pieces unchanged, and returns each
// piece before the next is sent.
func TestPiecesAreReadAtOnce(t *testing.T) {
	text := rapid.OneOf(
		rapid.SliceOfN(rapid.Byte(), 1, 3*stored),
		rapid.Map(rapid.IntRange(1, 5000), func(n int) []byte { return []byte(strings.Repeat(`{"type":"build_log"}`, n)) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		var wire bytes.Buffer
		var member Member
		wire.WriteString(Header)
		r, err := gzip.NewReader(&wire)
		if err != nil {
			t.Fatal(err)
		}
		for _, plain := range rapid.SliceOfN(text, 0, 5).Draw(t, "pieces") {
			member.Add(plain)
			wire.Write(Piece(plain))
			got := make([]byte, len(plain))
			if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("a piece of %d bytes came back as %d other bytes: %v", len(plain), len(got), err)
			}
		}
		wire.Write(member.Trailer())
		if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
			t.Fatalf("after the pieces: %q, %v", rest, err)
		}
	})
}

// A piece does not depend on earlier ones: all readers get the same bytes.
func TestPiecesInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const one, two = "task_started", "task_completed"
		plain := map[string][]byte{one: []byte(strings.Repeat(one, 40)), two: []byte(strings.Repeat(two, 50))}
		piece := map[string][]byte{one: Piece(plain[one]), two: Piece(plain[two])}
		var member Member
		var want []byte
		wire := []byte(Header)
		for _, name := range rapid.SliceOf(rapid.SampledFrom([]string{one, two})).Draw(t, "order") {
			member.Add(plain[name])
			want = append(want, plain[name]...)
			wire = append(wire, piece[name]...)
		}
		r, err := gzip.NewReader(bytes.NewReader(append(wire, member.Trailer()...)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came back as %d: %v", len(want), len(got), err)
		}
	})
}
