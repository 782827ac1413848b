package mask

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"strings"
)

// patterns returns the texts in which a value shows.
func patterns(value string) (all []string) {
	if len(value) < MinValue {
		return nil
	}
	all = forms(value)
	// A value of several lines is printed with other line ends, or with something before
	// each line. Each line counts as a value.
	if lines := strings.FieldsFunc(value, func(r rune) bool { return r == '\n' || r == '\r' }); len(lines) > 1 {
		for _, line := range lines {
			if line = strings.TrimSpace(line); len(line) >= minLine {
				all = append(all, forms(line)...)
			}
		}
	}
	return all
}

// minLine is longer than MinValue: the lines of a value may be as common as "true".
const minLine = 8

// forms returns the value itself, and what usual encodings make of it.
func forms(value string) []string {
	all := []string{
		value,
		hex.EncodeToString([]byte(value)), strings.ToUpper(hex.EncodeToString([]byte(value))),
		jsonText(value, true), jsonText(value, false), html.EscapeString(value),
		strings.ReplaceAll(value, `'`, `'\''`), strings.ReplaceAll(value, `'`, `'"'"'`), // as a shell prints commands
	}
	component := strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
	script := strings.NewReplacer("%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*").Replace(component) // encodeURIComponent
	for _, escaped := range []string{url.QueryEscape(value), url.PathEscape(value), component, script} {
		all = append(all, escaped, lowerEscapes(escaped))
	}
	return append(all, base64Forms(value)...)
}

// jsonText returns the value as it stands within a JSON string.
func jsonText(value string, escapeHTML bool) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(escapeHTML)
	if enc.Encode(value) != nil {
		return value
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(b.String()), `"`), `"`)
}

// lowerEscapes turns %2F into %2f.
func lowerEscapes(escaped string) string {
	b := []byte(escaped)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:], strings.ToLower(string(b[i+1:i+3])))
		}
	}
	return string(b)
}

// base64Forms returns the characters of the value's base64 that do not depend on what
// stands before and after the value, for each of the three places at which it may begin
// in a group of three bytes.
func base64Forms(value string) (all []string) {
	for before := range 3 {
		padded := append(make([]byte, before), value...)
		begin := (before*8 + 5) / 6
		end := len(padded) * 8 / 6
		if end-begin < MinValue {
			continue
		}
		std := base64.StdEncoding.EncodeToString(padded)[begin:end]
		all = append(all, std, strings.NewReplacer("+", "-", "/", "_").Replace(std))
		if before == 0 {
			all = append(all, wrapped(std, 76)...) // base64(1)
			all = append(all, wrapped(std, 64)...) // openssl, PEM
		}
	}
	return all
}

// wrapped returns the lines of a long encoding that is broken after each width
// characters.
func wrapped(text string, width int) (lines []string) {
	if len(text) <= width {
		return nil
	}
	for ; len(text) > width; text = text[width:] {
		lines = append(lines, text[:width])
	}
	if len(text) >= minLine {
		lines = append(lines, text)
	}
	return lines
}
