package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/buildcast/buildcast"
)

// Record is what the cache knows of one task or stage of a build: whether it was
// cached, and of what its key was made.
type Record struct {
	BuildID string    `json:"buildId"`
	Scope   Scope     `json:"scope"`
	Name    string    `json:"name"` // the task's or the stage's; see StageName
	Key     string    `json:"key,omitempty"`
	At      time.Time `json:"at"`
	// Cached says that it was restored, and Origin which build had made it.
	Cached bool   `json:"cached"`
	Origin string `json:"origin,omitempty"`
	// Fresh says that none of its outputs existed when it began: what exists of them when
	// it begins again is its own.
	Fresh bool `json:"fresh,omitempty"`
	// Note says why it was not looked up, or why its outputs were not kept.
	Note string `json:"note,omitempty"`
	// Before is the build whose key Blobs["before"] has: the last one with this task.
	Before string `json:"before,omitempty"`
	// Blobs has the parts of the key, and those of the key before it.
	Blobs map[string]Blob `json:"blobs,omitempty"`
}

// The names of a record's blobs.
const (
	partsBlob  = "parts"
	beforeBlob = "before"
)

// StageName is the name of a stage's records: tasks may be called install, too.
func StageName(stage string) string { return "stage:" + stage }

// Note keeps the record, with the parts of the key, so that Why can compare them
// with those of the build before it. A nil key has no parts. Records are not synced:
// whether the machine may lose power for a moment is not worth waiting for.
func (c *Cache) Note(ctx context.Context, r Record, k *Key) error {
	r.At, r.Blobs = time.Now().UTC(), map[string]Blob{}
	if k != nil {
		r.Key = k.In(r.Scope).String()
		b, unpin, err := c.putBlob(ctx, packParts(k.Parts()), false)
		if err != nil {
			return c.noted(err)
		}
		defer unpin()
		r.Blobs[partsBlob] = b
		if before := c.last(r.Scope, r.Name); before != nil && before.BuildID != r.BuildID {
			r.Before = before.BuildID
			r.Blobs[beforeBlob] = before.Blobs[partsBlob]
		} else if mine, err := c.record(r.BuildID, r.Name); err == nil && mine.Scope == r.Scope && mine.Before != "" {
			r.Before, r.Blobs[beforeBlob] = mine.Before, mine.Blobs[beforeBlob] // the build was resumed
		}
	}
	if err := c.writeChecked(c.recordPath(r.BuildID, r.Name), r, false); err != nil {
		return c.noted(err)
	}
	return nil
}

// Kept makes the build's record the one with which the next build is compared: what
// it made is in the cache.
func (c *Cache) Kept(s Scope, buildID, name string) error {
	r, err := c.record(buildID, name)
	if err != nil {
		return err
	}
	delete(r.Blobs, beforeBlob)
	return c.noted(c.writeChecked(c.lastPath(s, name), r, false))
}

// Record returns what Note has kept.
func (c *Cache) Record(buildID, name string) (Record, bool) {
	r, err := c.record(buildID, name)
	if err != nil {
		return Record{}, false
	}
	return *r, true
}

func (c *Cache) record(buildID, name string) (*Record, error) {
	r, _, err := readChecked[Record](c.recordPath(buildID, name))
	if err == nil && (r.BuildID != buildID || r.Name != name) {
		err = errCorrupt
	}
	return r, err
}

// last returns the record of the last build whose result was kept, or nil.
func (c *Cache) last(s Scope, name string) (newest *Record) {
	for _, from := range s.readable() {
		r, _, err := readChecked[Record](c.lastPath(from, name))
		if err == nil && r.Scope == from && r.Name == name && (newest == nil || r.At.After(newest.At)) {
			newest = r
		}
	}
	return newest
}

func (c *Cache) recordPath(buildID, name string) string {
	return c.path(buildsDir, buildID, shortSum("record", buildID, name))
}

func (c *Cache) lastPath(s Scope, name string) string {
	return c.path(append(append([]string{lastDir}, s.dir()...), shortSum("record", name))...)
}

// maxChanges bounds the changes of an explanation.
const maxChanges = 100

// Why explains the task or stage of a build. It returns NotFound if the cache has no
// record of it.
func (c *Cache) Why(ctx context.Context, buildID, name string) (why buildcast.CacheReason, err error) {
	if err := buildcast.ValidateBuildID(buildID); err != nil {
		return why, err
	}
	r, err := c.record(buildID, name)
	if err != nil {
		r, err = c.record(buildID, StageName(name))
	}
	if err != nil {
		return why, buildcast.Errorf(buildcast.NotFound, "the cache has no record of task %q of build %s: it did not run here, or the record was removed", clip(name), buildID)
	}
	why = buildcast.CacheReason{
		BuildID: r.BuildID, Name: r.Name, Cached: r.Cached, OriginBuildID: r.Origin, Note: r.Note, Before: r.Before, Changes: []buildcast.CacheChange{},
	}
	if r.Before == "" {
		return why, nil
	}
	mine, err := c.parts(ctx, r.Blobs[partsBlob])
	if err != nil {
		return why, unreadableParts(buildID, err)
	}
	before, err := c.parts(ctx, r.Blobs[beforeBlob])
	if err != nil {
		return why, unreadableParts(r.Before, err)
	}
	why.Changes = diff(before, mine)
	if n := len(why.Changes); n > maxChanges {
		why.Changes, why.More = why.Changes[:maxChanges], n-maxChanges
	}
	return why, nil
}

// clip shortens a name for a message.
func clip(name string) string { return name[:min(len(name), 60)] }

func unreadableParts(buildID string, cause error) error {
	return buildcast.Errorf(buildcast.NotFound, "the cache no longer has the key's parts of build %s: they were removed or damaged", buildID).Because(cause)
}

// diff returns the parts in which the keys differ. Both are sorted.
func diff(before, after []Part) []buildcast.CacheChange {
	changes := []buildcast.CacheChange{}
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && comparePart(before[0], after[0]) < 0 && !samePart(before[0], after[0]):
			changes = append(changes, buildcast.CacheChange{Kind: before[0].Kind, Name: before[0].Name, Old: before[0].Value})
			before = before[1:]
		case len(before) == 0 || !samePart(before[0], after[0]):
			changes = append(changes, buildcast.CacheChange{Kind: after[0].Kind, Name: after[0].Name, New: after[0].Value})
			after = after[1:]
		default:
			if before[0].Value != after[0].Value {
				changes = append(changes, buildcast.CacheChange{Kind: after[0].Kind, Name: after[0].Name, Old: before[0].Value, New: after[0].Value})
			}
			before, after = before[1:], after[1:]
		}
	}
	return changes
}

func samePart(a, b Part) bool { return a.Kind == b.Kind && a.Name == b.Name }

// maxParts bounds the stored parts of a key, in bytes of JSON.
const maxParts = 64 << 20

// packParts is the parts as compressed JSON.
func packParts(parts []Part) Source {
	return func(w io.Writer) error {
		b, err := json.Marshal(parts)
		if err != nil {
			return err
		}
		enc, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		_, err = enc.Write(b)
		return errors.Join(err, enc.Close())
	}
}

func (c *Cache) parts(ctx context.Context, b Blob) ([]Part, error) {
	if !b.valid() {
		return nil, errCorrupt
	}
	f, err := c.openBlob(ctx, b)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	packed, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return unpackParts(packed)
}

func unpackParts(packed []byte) ([]Part, error) {
	dec, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxParts))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	b, err := io.ReadAll(io.LimitReader(dec, maxParts))
	if err != nil {
		return nil, err
	}
	var parts []Part
	if err := json.Unmarshal(b, &parts); err != nil {
		return nil, err
	}
	slices.SortFunc(parts, comparePart)
	return parts, nil
}
