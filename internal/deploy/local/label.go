package local

import (
	"encoding/base32"
	"strings"

	"github.com/buildcast/buildcast"
)

// escaped marks a label that is not the id itself.
const escaped = "x-"

// HostLabel returns the part of host names and directory names that identifies a
// build. Host names ignore case and have no underscore; build ids have both. No
// two valid ids have the same label. An id that is a lower-case label is its own
// label, a ULID becomes lower case, and any other id is encoded:
//
//	27                          27
//	01JD3Y5R8Q0V6M2K7T9XBCDEFG  01jd3y5r8q0v6m2k7t9xbcdefg
//	My_Build                    x-9lslugjld5m68  (base32hex)
//
// The label of a valid id has at most 44 characters: with build- in front it is
// shorter than the 63 characters that DNS allows.
func HostLabel(buildID string) string {
	switch {
	case isULID(buildID):
		return strings.ToLower(buildID)
	// The lower case of a ULID and the escaped form are taken: another id that
	// looks like one of them is encoded.
	case isLabel(buildID) && !isULID(strings.ToUpper(buildID)) && !strings.HasPrefix(buildID, escaped):
		return buildID
	}
	return escaped + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(buildID)))
}

// buildOf returns the build id with the label, or "" if no valid id has it.
func buildOf(label string) string {
	id := label
	if encoded, ok := strings.CutPrefix(label, escaped); ok {
		b, err := base32.HexEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(encoded))
		if err != nil {
			return ""
		}
		id = string(b)
	} else if upper := strings.ToUpper(label); isULID(upper) {
		id = upper
	}
	if buildcast.ValidateBuildID(id) != nil || HostLabel(id) != label {
		return ""
	}
	return id
}

// isULID reports whether s is a ULID in its canonical form: 26 characters of
// Crockford's base32 in upper case, of at most 128 bits.
func isULID(s string) bool {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	if len(s) != 26 || s[0] > '7' {
		return false
	}
	for i := range len(s) {
		if strings.IndexByte(digits, s[i]) < 0 {
			return false
		}
	}
	return true
}

// isLabel reports whether s is a label of a host name, in lower case.
func isLabel(s string) bool {
	if s == "" || len(s) > 63-len(sitePrefix) || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
