package query_test

import (
	"strings"
	"testing"

	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/httpapi/query"
)

// Texts that people write are printable: controls are refused, and only they.
func TestPrintableText(t *testing.T) {
	for text, ok := range map[string]bool{
		"": true, " ~": true, "\u00a0": true, "héllo ✓": true, "\U0001f600": true,
		"\x00": false, "\t": false, "\x1f": false, "\x7f": false, "\u0080": false, "\u009f": false, "\xff": false,
		strings.Repeat("x", 100): true, strings.Repeat("x", 101): false,
	} {
		err := query.ValidateText(text, 100, "project")
		if (err == nil) != ok || err != nil && problem.FieldOf(err) != "project" {
			t.Errorf("%q: %v", text, err)
		}
	}
}
