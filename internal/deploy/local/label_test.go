package local

import (
	"encoding/base32"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/buildcast/buildcast"
)

func TestHostLabel(t *testing.T) {
	tests := []struct{ name, id, label string }{
		{"number", "27", "27"},
		{"lower case", "my-build-7", "my-build-7"},
		{"two hyphens", "a--b", "a--b"},
		{"not an internationalized name behind build-", "xn--80ak6aa92e", "xn--80ak6aa92e"},
		{"ULID", "01JD3Y5R8Q0V6M2K7T9XBCDEFG", "01jd3y5r8q0v6m2k7t9xbcdefg"},
		{"ULID of digits", "01234567890123456789012345", "01234567890123456789012345"},
		{"the longest that is not a ULID", "81jd3y5r8q0v6m2k7t9xbcdefg", "81jd3y5r8q0v6m2k7t9xbcdefg"},
		{"upper case", "A", "x-84"},
		{"underscore", "a_b", "x-c5fm4"},
		{"leading hyphen", "-a", "x-5lgg"},
		{"trailing hyphen", "a-", "x-c4mg"},
		{"the escape itself", "x-84", "x-f0mjgd0"},
		{"lower case that looks like a ULID", "01jd3y5r8q0v6m2k7t9xbcdefg", "x-60omkp1jf4qn4e3h61r3cr9idcrn8eboc9hm8pb6cs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := HostLabel(tt.id); got != tt.label {
				t.Errorf("%q -> %q, want %q", tt.id, got, tt.label)
			}
		})
	}
}

// idOf is the inverse of HostLabel. Because an inverse exists, no two ids share a
// label.
func idOf(t interface{ Fatal(...any) }, label string) string {
	if rest, ok := strings.CutPrefix(label, escaped); ok {
		id, err := base32.HexEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(rest))
		if err != nil {
			t.Fatal(err)
		}
		return string(id)
	}
	if isULID(strings.ToUpper(label)) {
		return strings.ToUpper(label)
	}
	return label
}

func anyID() *rapid.Generator[string] {
	ulid := rapid.StringMatching(`[0-7][0-9A-HJKMNP-TV-Z]{25}`)
	return rapid.OneOf(
		rapid.StringMatching(`[A-Za-z0-9_-]{1,26}`),
		rapid.StringMatching(`[a-z0-9-]{1,26}`),
		rapid.StringMatching(`x-[0-9a-v]{1,24}`),
		ulid,
		rapid.Map(ulid, strings.ToLower),
		rapid.Map(rapid.StringMatching(`[A-Za-z0-9_-]{1,14}`), func(id string) string {
			return escaped + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(id)))
		}),
	)
}

func TestHostLabelIsInjectiveAndValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := anyID().Draw(t, "id")
		if err := buildcast.ValidateBuildID(id); err != nil {
			t.Fatal(err)
		}
		label := HostLabel(id)
		if whole := sitePrefix + label; len(whole) > 63 || !isLabel(label) || strings.ToLower(whole) != whole {
			t.Fatalf("%q is not a label of a host name", whole)
		}
		if back := idOf(t, label); back != id {
			t.Fatalf("%q and %q share the label %q", id, back, label)
		}
	})
}

func FuzzHostLabel(f *testing.F) {
	for _, id := range []string{"27", "My_Build", "x-84", "01JD3Y5R8Q0V6M2K7T9XBCDEFG", "01jd3y5r8q0v6m2k7t9xbcdefg"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if buildcast.ValidateBuildID(id) != nil {
			return
		}
		if label := HostLabel(id); !isLabel(label) || idOf(t, label) != id {
			t.Errorf("%q -> %q -> %q", id, label, idOf(t, label))
		}
	})
}

func TestBuildOfLabel(t *testing.T) {
	for _, id := range []string{"27", "01JD3Y5R8Q0V6M2K7T9XBCDEFG", "01jd3y5r8q0v6m2k7t9xbcdefg", "My_Build", "x-y", "-", "A", "a", "abcdefghijklmnopqrstuvwxyz"} {
		if got := buildOf(HostLabel(id)); got != id {
			t.Errorf("the label of %q is taken for the label of %q", id, got)
		}
	}
	for _, label := range []string{"", "x-", "x-!", "x-zz", "X", "a_b", "a.b"} {
		if got := buildOf(label); got != "" {
			t.Errorf("%q is taken for the label of %q", label, got)
		}
	}
}
