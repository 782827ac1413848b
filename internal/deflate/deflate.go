// Package deflate assembles gzip streams from pieces that are compressed once and
// shared by many readers.
//
// A piece does not refer to earlier data and ends with an empty block at a byte
// boundary. So pieces may follow each other in any order, and a reader can inflate
// each piece as soon as it arrives. Only the trailer depends on the whole stream.
package deflate

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"sync"

	"github.com/klauspost/compress/flate"
)

// stored is the size in bytes below which a piece is not compressed: a short text
// has few repetitions.
const stored = 200

// flush is an empty stored block: a reader that reaches one returns its data.
const flush = "\x00\x00\x00\xff\xff"

// Compressors are large (hundreds of KB), so they are shared.
var compressors = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

// Piece returns the compressed form of plain, to be written as a part of a Member.
func Piece(plain []byte) []byte {
	if len(plain) < stored {
		out := make([]byte, 0, 5+len(plain)+len(flush))
		out = append(out, 0)
		out = binary.LittleEndian.AppendUint16(out, uint16(len(plain)))
		out = binary.LittleEndian.AppendUint16(out, ^uint16(len(plain)))
		return append(append(out, plain...), flush...)
	}
	out := bytes.NewBuffer(make([]byte, 0, len(plain)/8))
	w := compressors.Get().(*flate.Writer)
	defer compressors.Put(w)
	w.Reset(out)
	_, _ = w.Write(plain) // a bytes.Buffer does not fail
	_ = w.Flush()
	return out.Bytes()
}

// Member is one gzip stream that is being written: first Header, then any number
// of pieces, whose plain bytes are also passed to Add, then Trailer. The zero
// value is a new stream. A Member is not safe for concurrent use.
type Member struct {
	sum, size uint32
}

// Header returns the beginning of a stream, without a name or time.
const Header = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

// Add counts a piece's plain bytes.
func (m *Member) Add(plain []byte) {
	m.sum = crc32.Update(m.sum, crc32.IEEETable, plain)
	m.size += uint32(len(plain)) // the format counts modulo 2^32
}

// Trailer returns the end of the stream: an empty last block, the checksum and the size.
func (m *Member) Trailer() []byte {
	out := append(make([]byte, 0, 13), "\x01\x00\x00\xff\xff"...)
	out = binary.LittleEndian.AppendUint32(out, m.sum)
	return binary.LittleEndian.AppendUint32(out, m.size)
}
