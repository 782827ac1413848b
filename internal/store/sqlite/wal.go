package sqlite

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Sizes of the write-ahead log's parts; see "WAL File Format" in SQLite's
// documentation.
const (
	walHeaderSize   = 32
	frameHeaderSize = 24
	walMagic        = 0x377f0682 // the lowest bit: checksums are over big-endian words
)

// walDamage describes the end of a write-ahead log that cannot be read.
type walDamage struct {
	frames  int    // with the log's salt, after the last frame whose checksum is right
	commits int    // of those: frames that end a transaction
	copy    string // the path of the copy
}

// String tells what the damage means.
func (d walDamage) String() string {
	return fmt.Sprintf("the write-ahead log was damaged when the database was opened: %d pages with %d commits after the damage could not be read, so events that were acknowledged shortly before the last stop may be missing; the damaged log is kept as %s",
		d.frames, d.commits, filepath.Base(d.copy))
}

// inspectWAL looks for commits that SQLite will not see. SQLite takes the first
// frame whose checksum is wrong for the end of the log, and drops the rest without
// an error. Two kinds of frames behind that end are not a sign of damage:
//   - frames with an older salt: a log that begins anew leaves them
//   - frames without a commit: a transaction leaves them that a kill has interrupted
func inspectWAL(path string) (walDamage, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return walDamage{}, nil
	}
	if err != nil {
		return walDamage{}, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	header := make([]byte, walHeaderSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return walDamage{}, endOfWAL(err)
	}
	magic, size := binary.BigEndian.Uint32(header), int(binary.BigEndian.Uint32(header[8:]))
	if magic&^1 != walMagic || size < 512 || size > 65536 {
		return walDamage{}, nil // not a log: SQLite begins a new one
	}
	sum := checksum{order: binary.LittleEndian}
	if magic&1 == 1 {
		sum.order = binary.BigEndian
	}
	if sum.add(header[:24]); !sum.matches(header[24:]) {
		return walDamage{}, nil
	}
	var d walDamage
	frame := make([]byte, frameHeaderSize+size)
	for good := true; ; {
		if _, err := io.ReadFull(r, frame); err != nil {
			if d.commits == 0 {
				d = walDamage{}
			}
			return d, endOfWAL(err)
		}
		current := string(frame[8:16]) == string(header[16:24]) // both salts
		if good {
			sum.add(frame[:8])
			sum.add(frame[frameHeaderSize:])
			good = current && sum.matches(frame[16:])
		}
		if !good && current {
			d.frames++
			if binary.BigEndian.Uint32(frame[4:]) != 0 {
				d.commits++
			}
		}
	}
}

// endOfWAL returns nil for the end of the file, even in the middle of a frame.
func endOfWAL(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// checksum is the checksum of SQLite's write-ahead log. It continues from frame to
// frame.
type checksum struct {
	order  binary.ByteOrder
	s0, s1 uint32
}

// add takes a multiple of 8 bytes.
func (c *checksum) add(b []byte) {
	for ; len(b) >= 8; b = b[8:] {
		c.s0 += c.order.Uint32(b) + c.s1
		c.s1 += c.order.Uint32(b[4:]) + c.s0
	}
}

func (c *checksum) matches(b []byte) bool {
	return c.s0 == binary.BigEndian.Uint32(b) && c.s1 == binary.BigEndian.Uint32(b[4:])
}

// keepDamagedWAL copies the log before SQLite writes over it, so that somebody can
// look for the lost events. It replaces an older copy.
func keepDamagedWAL(path string) (string, error) {
	from, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer from.Close()
	kept := path + ".damaged"
	to, err := os.OpenFile(kept, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(to, from)
	return kept, errors.Join(err, to.Close())
}
