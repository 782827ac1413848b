package engineio

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/gobwas/httphead"
	"github.com/gobwas/ws/wsflate"
	"github.com/klauspost/compress/flate"
)

var errInflatedTooLarge = errors.New("engineio: an inflated message is longer than the limit")

// A message compressed without context ends in an empty block whose last four bytes
// are not sent (RFC 7692, 7.2.1). Before inflating, these bytes are appended again,
// and after them a final block that ends the stream.
const (
	deflateTail = "\x00\x00\xff\xff"
	inflateTail = deflateTail + "\x01\x00\x00\xff\xff"
)

// Compressors are large (hundreds of kB), so they are pooled. Each message is
// compressed without context, so all sessions can share one compressed frame.
var (
	compressors = sync.Pool{New: func() any {
		w, err := flate.NewWriter(nil, flate.BestSpeed)
		if err != nil {
			panic(err) // the level is a constant
		}
		return w
	}}
	decompressors = sync.Pool{New: func() any { return flate.NewReader(nil) }}
)

// deflate compresses one message without context.
func deflate(data []byte) []byte {
	var out bytes.Buffer
	w := compressors.Get().(*flate.Writer)
	defer compressors.Put(w)
	w.Reset(&out)
	_, _ = w.Write(data) // a bytes.Buffer does not fail
	_ = w.Flush()
	return bytes.TrimSuffix(out.Bytes(), []byte(deflateTail))
}

// inflate inflates one message that was compressed without context. Beyond limit
// bytes it stops and returns errInflatedTooLarge.
func inflate(data []byte, limit int) ([]byte, error) {
	r := decompressors.Get().(io.ReadCloser)
	defer decompressors.Put(r)
	in := io.MultiReader(bytes.NewReader(data), bytes.NewReader([]byte(inflateTail)))
	if err := r.(flate.Resetter).Reset(in, nil); err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(out) > limit {
		return nil, errInflatedTooLarge
	}
	return out, nil
}

// negotiateDeflate agrees to permessage-deflate without context in either
// direction, and declines offers that ask for more, such as a smaller window.
func negotiateDeflate(agreed *bool) func(httphead.Option) (httphead.Option, error) {
	extension := wsflate.Extension{Parameters: wsflate.Parameters{
		ServerNoContextTakeover: true,
		ClientNoContextTakeover: true,
	}}
	return func(offer httphead.Option) (httphead.Option, error) {
		answer, err := extension.Negotiate(offer)
		if err != nil {
			return httphead.Option{}, nil // an offer that cannot be read is declined
		}
		_, *agreed = extension.Accepted()
		return answer, nil
	}
}
