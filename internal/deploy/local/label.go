package local

import (
	"encoding/base32"
	"strings"

	"github.com/buildcast/buildcast"
)

// escaped marks a label that is not the id itself.
const escaped = "x-"

// HostLabel is the part of host names and directory names that stands for a
// build. Host names know no case and no underscore, build ids know both; no two
// valid ids have the same label. An id that is a lower-case label stays as it
// is, a ULID goes to lower case, and any other is encoded:
//
//	27                          27
//	01JD3Y5R8Q0V6M2K7T9XBCDEFG  01jd3y5r8q0v6m2k7t9xbcdefg
//	My_Build                    x-9lslugjld5m68  (base32hex)
//
// The label of a valid id has at most 44 characters, so that with build- before
// it it stays within the 63 of DNS.
func HostLabel(buildID string) string {
	switch {
	case isULID(buildID):
		return strings.ToLower(buildID)
	// What a ULID becomes is not free for another id, nor is the escaped form.
	case isLabel(buildID) && !isULID(strings.ToUpper(buildID)) && !strings.HasPrefix(buildID, escaped):
		return buildID
	}
	return escaped + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(buildID)))
}

// buildOf returns the build whose label it is, or "" if it is no build's.
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
