package cache

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"slices"

	"github.com/buildcast/buildcast"
)

// format enters each key. Another number makes everything that is kept unreachable:
// change it if the meaning of a key's parts changes.
const format = "buildcast-cache-1"

// Scope is whose builds share what is kept. Planned is the trust: what a build made
// in which a planner had a part is read by such builds only. They also read what
// other builds made.
type Scope struct {
	Org     string `json:"org"`
	Project string `json:"project"`
	Planned bool   `json:"planned,omitempty"`
}

// readable returns the scopes that a build of this scope may read, in this order.
func (s Scope) readable() []Scope {
	if !s.Planned {
		return []Scope{s}
	}
	trusted := s
	trusted.Planned = false
	return []Scope{trusted, s}
}

// dir names the scope in paths.
func (s Scope) dir() []string {
	trust := "trusted"
	if s.Planned {
		trust = "planned"
	}
	return []string{shortSum("scope", s.Org, s.Project), trust}
}

// Part is one part of a key: what a result depends on. Kind and Name say what it is.
type Part struct {
	Kind  string `json:"kind"`
	Name  string `json:"name,omitempty"`
	Value string `json:"value"`
}

// The kinds of parts.
const (
	PartFile     = buildcast.CacheFile
	PartEnv      = buildcast.CacheVariable
	PartCommand  = buildcast.CacheCommand
	PartOutputs  = buildcast.CacheOutputs
	PartPlatform = buildcast.CachePlatform
	PartOther    = buildcast.CachePart
)

// Key is what a result depends on. The zero value is an empty key. It does not depend
// on the order in which its parts are added.
type Key struct {
	parts []keyPart
}

type keyPart struct {
	Part
	hidden bool
}

// Add adds a part. Whoever may read the cache may read its value.
func (k *Key) Add(kind, name, value string) {
	k.parts = append(k.parts, keyPart{Part{kind, name, value}, false})
}

// AddHidden adds a part of whose value only a short hash is stored.
func (k *Key) AddHidden(kind, name, value string) {
	k.parts = append(k.parts, keyPart{Part{kind, name, value}, true})
}

// ID is a key's SHA-256.
type ID [sha256.Size]byte

// String returns the id in hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// In returns the id of the key in a scope.
func (k *Key) In(s Scope) ID {
	slices.SortFunc(k.parts, func(a, b keyPart) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
	})
	h := sha256.New()
	trust := "trusted"
	if s.Planned {
		trust = "planned"
	}
	addStrings(h, format, s.Org, s.Project, trust)
	for _, p := range k.parts {
		addStrings(h, p.Kind, p.Name, p.Value)
	}
	return ID(h.Sum(nil))
}

// maxShown bounds the values that are stored as they are, in bytes.
const maxShown = 200

// Parts returns the parts as they are stored: sorted, with hashes in place of hidden
// and of long values.
func (k *Key) Parts() []Part {
	parts := make([]Part, 0, len(k.parts))
	for _, p := range k.parts {
		if p.hidden || len(p.Value) > maxShown {
			p.Value = shortSum("value", p.Name, p.Value)
		}
		parts = append(parts, p.Part)
	}
	slices.SortFunc(parts, comparePart)
	return parts
}

func comparePart(a, b Part) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
}

// addStrings hashes the strings with their lengths: "a", "bc" is not "ab", "c".
func addStrings(h hash.Hash, all ...string) {
	var length [8]byte
	for _, s := range all {
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		h.Write(length[:])
		h.Write([]byte(s))
	}
}

// shortSum returns a hash of the strings that suffices to tell them apart.
func shortSum(all ...string) string {
	h := sha256.New()
	addStrings(h, all...)
	return hex.EncodeToString(h.Sum(nil)[:12])
}
