// Package mask hides the values of secrets in text, whole or as a stream in any pieces.
//
// A value is found as it is, line by line, and as programs usually print it: in base64
// at each of its three alignments, percent-encoded, escaped as JSON, HTML and shell text,
// and in hexadecimal. What a program takes apart itself is not found: a part of a value,
// its characters on lines of their own or with colours between them, a compressed or
// encrypted value.
//
// All patterns are one automaton (Aho and Corasick's), which sees each byte once. A
// stream holds back only the bytes with which a pattern may begin, so an output that
// pauses is seen at once unless it ends with the start of a secret.
package mask

import (
	"io"
	"strings"
)

// Hidden stands in the place of a value.
const Hidden = "***"

// MinValue is the length of the shortest value that is masked, in bytes. Masking a
// shorter one would make output unreadable, and would tell the value by where it is
// missing.
const MinValue = 4

// Masker hides a set of values. The nil Masker hides nothing. It is immutable: many
// goroutines may use it.
type Masker struct {
	first [256]int32 // the states after one byte, without the look-up: most bytes lead nowhere
	next  map[edge]int32
	nodes []node // 0 is the state in which no pattern has begun
}

type edge struct {
	from int32
	by   byte
}

// node is a state: the longest end of the text that is the start of a pattern.
type node struct {
	depth int   // its length
	match int   // the length of the longest pattern that ends here; 0: none does
	fail  int32 // the next shorter end that is a start
}

// New returns a masker of the values. Those shorter than MinValue are left out.
func New(values ...string) *Masker {
	m := &Masker{next: map[edge]int32{}, nodes: make([]node, 1)}
	for _, v := range values {
		for _, p := range patterns(v) {
			m.add(p)
		}
	}
	if len(m.nodes) == 1 {
		return nil
	}
	m.link()
	return m
}

func (m *Masker) add(pattern string) {
	at := int32(0)
	for i := range len(pattern) {
		e := edge{at, pattern[i]}
		to, ok := m.next[e]
		if !ok {
			to = int32(len(m.nodes))
			m.nodes = append(m.nodes, node{depth: i + 1})
			m.next[e] = to
		}
		at = to
	}
	m.nodes[at].match = len(pattern)
}

// link computes the fail states, the shorter ones first.
func (m *Masker) link() {
	edges := make([][]edge, 0, 64) // by the depth of the state from which they lead
	for e := range m.next {
		d := m.nodes[e.from].depth
		for len(edges) <= d {
			edges = append(edges, nil)
		}
		edges[d] = append(edges[d], e)
	}
	for depth, level := range edges {
		for _, e := range level {
			to := m.next[e]
			if depth == 0 {
				m.first[e.by] = to
				continue
			}
			n := &m.nodes[to]
			n.fail = m.step(m.nodes[e.from].fail, e.by)
			n.match = max(n.match, m.nodes[n.fail].match)
		}
	}
}

// step returns the state after one more byte.
func (m *Masker) step(at int32, by byte) int32 {
	for at != 0 {
		if to, ok := m.next[edge{at, by}]; ok {
			return to
		}
		at = m.nodes[at].fail
	}
	return m.first[by]
}

// String returns the text with the values hidden.
func (m *Masker) String(text string) string {
	if m == nil {
		return text
	}
	var b strings.Builder
	w := m.Writer(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

// Writer returns a writer that passes everything on to out, with the values hidden
// however they are divided over calls of Write. Close passes on what is held back, and
// does not close out.
func (m *Masker) Writer(out io.Writer) io.WriteCloser {
	if m == nil {
		return unmasked{out}
	}
	return &stream{masker: m, out: out}
}

type unmasked struct{ io.Writer }

func (unmasked) Close() error { return nil }

// stream masks one text. It holds back the bytes of the state that it is in: held has
// as many as the state's depth, and covered of them, at the end, are part of a match.
type stream struct {
	masker *Masker
	out    io.Writer
	at     int32
	held   []heldByte
	hiding bool // the last byte that was passed on is part of a match
	passed []byte
}

type heldByte struct {
	value   byte
	covered bool
}

func (s *stream) Write(b []byte) (int, error) {
	for _, c := range b {
		if s.at = s.masker.step(s.at, c); s.at == 0 && len(s.held) == 0 {
			s.pass(heldByte{value: c})
			continue
		}
		s.held = append(s.held, heldByte{value: c})
		n := s.masker.nodes[s.at]
		for i := len(s.held) - n.match; i < len(s.held); i++ {
			s.held[i].covered = true
		}
		s.release(len(s.held) - n.depth)
	}
	return len(b), s.flush()
}

// Close implements io.Closer.
func (s *stream) Close() error {
	s.release(len(s.held))
	s.at = 0
	return s.flush()
}

// release passes on the first n bytes: no match can cover them any longer.
func (s *stream) release(n int) {
	for _, h := range s.held[:n] {
		s.pass(h)
	}
	s.held = append(s.held[:0], s.held[n:]...)
}

func (s *stream) pass(h heldByte) {
	switch {
	case !h.covered:
		s.passed = append(s.passed, h.value)
	case !s.hiding:
		s.passed = append(s.passed, Hidden...)
	}
	s.hiding = h.covered
}

func (s *stream) flush() error {
	if len(s.passed) == 0 {
		return nil
	}
	_, err := s.out.Write(s.passed)
	s.passed = s.passed[:0]
	return err
}
