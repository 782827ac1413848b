package mask

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
)

const secret = `s3cr3t/va+lue"<&'ü! x`

func TestEncodings(t *testing.T) {
	m := New(secret)
	quoted, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{
		"as it is":        secret,
		"hex":             hex.EncodeToString([]byte(secret)),
		"HEX":             strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"query":           url.QueryEscape(secret),
		"path":            url.PathEscape(secret),
		"path, lower":     lowerEscapes(url.PathEscape(secret)),
		"JSON":            strings.Trim(string(quoted), `"`),
		"JSON without <":  `s3cr3t/va+lue\"<&'ü! x`,
		"HTML":            `s3cr3t/va+lue&#34;&lt;&amp;&#39;ü! x`,
		"set -x":          `s3cr3t/va+lue"<&'\''ü! x`,
		"encodeURIComp.":  `s3cr3t%2Fva%2Blue%22%3C%26'%C3%BC!%20x`,
		"URI, lower case": `s3cr3t%2fva%2blue%22%3c%26'%c3%bc!%20x`,
	}
	for name, text := range shown {
		if got := m.String("before " + text + " after"); got != "before "+Hidden+" after" {
			t.Errorf("%s: %q is shown as %q", name, text, got)
		}
	}
}

// TestBase64AtEachAlignment: what stands before the value moves its bits.
func TestBase64AtEachAlignment(t *testing.T) {
	m := New(secret)
	for _, before := range []string{"", "u", "us", "use", "user:", "user:p"} {
		for _, after := range []string{"", "\n", "ab", "abc"} {
			for name, enc := range map[string]*base64.Encoding{"std": base64.StdEncoding, "raw": base64.RawStdEncoding, "url": base64.URLEncoding} {
				text := enc.EncodeToString([]byte(before + secret + after))
				got := m.String(text)
				rest, err := base64.RawURLEncoding.DecodeString(strings.NewReplacer("=", "", "+", "-", "/", "_", Hidden, "").Replace(got))
				_ = err
				if !strings.Contains(got, Hidden) || strings.Contains(string(rest), "cr3t") || strings.Contains(got, text[len(text)/3:len(text)/2]) {
					t.Errorf("%s of %q%s%q is shown as %q", name, before, "…", after, got)
				}
			}
		}
	}
}

func TestWrappedBase64(t *testing.T) {
	long := strings.Repeat("0123456789abcdef-", 12)
	m := New(long)
	for _, width := range []int{64, 76} {
		text := base64.StdEncoding.EncodeToString([]byte(long + "\n"))
		var lines []string
		for ; len(text) > width; text = text[width:] {
			lines = append(lines, text[:width])
		}
		for i, line := range append(lines, text) {
			if got := m.String(line); !strings.Contains(got, Hidden) || len(got) > len(Hidden)+4 {
				t.Errorf("width %d, line %d is shown as %q", width, i, got)
			}
		}
	}
}

func TestLinesOfAValue(t *testing.T) {
	m := New("-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n==\n-----END KEY-----")
	got := m.String("key: MIIEvQIBADANBgkq\r\n     hkiG9w0BAQEFAASC\r\n==\n")
	if got != "key: ***\r\n     ***\r\n==\n" {
		t.Errorf("it is shown as %q", got)
	}
}

func TestNeighboursAndOverlaps(t *testing.T) {
	m := New("abcdef", "defghi", "cdef")
	for text, want := range map[string]string{
		"abcdefghi":         "***",   // overlapping: all of it
		"abcdefabcdef":      "***",   // side by side
		"xabcdefx":          "x***x", //
		"abcdeabcdef":       "abcde***",
		"abcde":             "abcde",
		"bcdefgh":           "b***gh",
		"":                  "",
		"defgdefghi abcdef": "defg*** ***",
	} {
		if got := m.String(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	if got := New("abc", ""); got != nil || got.String("abc") != "abc" {
		t.Errorf("values of less than %d bytes are masked", MinValue)
	}
}

// TestNothingIsHeldBackWithoutNeed: a watcher sees output at once.
func TestNothingIsHeldBackWithoutNeed(t *testing.T) {
	var out bytes.Buffer
	w := New("secret").Writer(&out)
	for _, step := range []struct{ in, seen string }{
		{"Password: ", "Password: "},
		{"sec", "Password: "},
		{"ond\n", "Password: second\n"},
		{"s", "Password: second\n"},
		{"e", "Password: second\n"},
		{"cret", "Password: second\n"}, // it may go on with another value
		{"\n", "Password: second\n***\n"},
	} {
		if _, err := io.WriteString(w, step.in); err != nil || out.String() != step.seen {
			t.Errorf("after %q %q is seen, %v, want %q", step.in, out.String(), err, step.seen)
		}
	}
}

// mentions reports whether a value is in the text; the model of TestAnyPieces.
func mentions(text string, values []string) bool {
	for _, v := range values {
		if len(v) >= MinValue && strings.Contains(text, v) {
			return true
		}
	}
	return false
}

// FuzzAnyPieces: however a text is divided, it is shown the same, without the values; what
// has none is not changed.
func FuzzAnyPieces(f *testing.F) {
	f.Add("my secret and my se", "secret", "ret an", uint64(1))
	f.Add("aaaaaaaaabaaaa", "aaaa", "aaab", uint64(2))
	f.Add("x\r\nline-one\nline-two\n", "line-one\nline-two", "\x00\xff\x00\xff", uint64(3))
	f.Fuzz(func(t *testing.T, text, one, two string, seed uint64) {
		if len(one)+len(two) > 2000 || strings.Contains(Hidden, one) || strings.Contains(Hidden, two) {
			return // no values that can be told from the mask
		}
		m := New(one, two)
		whole := m.String(text)
		var out bytes.Buffer
		w := m.Writer(&out)
		random := rand.New(rand.NewPCG(seed, 0))
		for rest := text; rest != ""; {
			n := 1 + random.IntN(len(rest))
			if _, err := io.WriteString(w, rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil || out.String() != whole {
			t.Fatalf("in pieces it is %q, %v, as a whole %q", out.String(), err, whole)
		}
		for piece := range strings.SplitSeq(whole, Hidden) {
			if mentions(piece, []string{one, two}) {
				t.Fatalf("%q shows a value of %q, %q", whole, one, two)
			}
		}
		if s, ok := w.(*stream); ok && cap(s.held) > 16*(len(one)+len(two))+1024 {
			t.Fatalf("it holds %d bytes", cap(s.held))
		}
	})
}

func BenchmarkStream(b *testing.B) {
	m := New(strings.Repeat("0123456789abcdef", 4), secret, "another value")
	text := []byte(strings.Repeat("vite v8.4.0 building client environment for production...\n", 1000))
	b.SetBytes(int64(len(text)))
	w := m.Writer(io.Discard)
	for b.Loop() {
		_, _ = w.Write(text)
	}
}
