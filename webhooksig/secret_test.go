package webhooksig_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/buildcast/buildcast/webhooksig"
)

func TestParseSecret(t *testing.T) {
	whsec := func(n int) string {
		return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, n))
	}
	for _, tt := range []struct{ name, text, want string }{
		{"least", whsec(24), ""},
		{"most", whsec(64), ""},
		{"plain", "8 chärs.", ""},
		{"the longest plain", strings.Repeat("p", 256), ""},
		{"too few bytes", whsec(23), "holds 23 bytes behind whsec_: use 24 to 64"},
		{"too many bytes", whsec(65), "holds 65 bytes behind whsec_: use 24 to 64"},
		{"only the prefix", "whsec_", "holds 0 bytes"},
		{"base64 for URLs", strings.ReplaceAll(whsec(24), "+", "-"), "is not base64 with padding"},
		{"no padding", strings.TrimRight(whsec(25), "="), "is not base64 with padding"},
		{"stray bits", strings.Replace(whsec(25), "+w==", "+x==", 1), "is not base64 with padding"},
		{"a line break within", whsec(24)[:12] + "\n" + whsec(24)[12:], "line break"},
		{"a line break behind", "hunter2hunter2\n", "line break"},
		{"invalid UTF-8", "hunter2hunter2\xff", "invalid UTF-8"},
		{"a space in front", " hunter2hunter2", "begins or ends with a space"},
		{"short", "hunter2", "is 7 characters: use 8 or more"},
		{"empty", "", "is 0 characters"},
		{"long", strings.Repeat("p", 257), "is 257 bytes: use at most 256"},
	} {
		s, err := webhooksig.ParseSecret(tt.text)
		if tt.want == "" {
			if err != nil || s.Reveal() != tt.text || s.IsZero() {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || !s.IsZero() {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
			continue
		}
		if content := strings.TrimPrefix(tt.text, "whsec_"); len(content) > 3 && strings.Contains(err.Error(), strings.TrimSpace(content)[:4]) {
			t.Errorf("%s: the error shows the secret: %v", tt.name, err)
		}
	}
}

func TestNewSecret(t *testing.T) {
	a, b := webhooksig.NewSecret(), webhooksig.NewSecret()
	if a.Reveal() == b.Reveal() {
		t.Error("two new secrets are one")
	}
	if again := parse(t, a.Reveal()); again.Reveal() != a.Reveal() {
		t.Error("a new secret does not come back as it was")
	}
	if !strings.HasPrefix(a.Reveal(), "whsec_") {
		t.Error("a new secret is plain")
	}
	if (webhooksig.Secret{}).Reveal() != "" {
		t.Error("the zero secret has a text")
	}
}

// However it is written, nothing of it is seen.
func TestSecretIsNotShown(t *testing.T) {
	const text = "correct horse battery"
	secret := parse(t, text)
	type holder struct {
		S      webhooksig.Secret
		P      *webhooksig.Secret
		hidden webhooksig.Secret
	}
	one := holder{secret, &secret, secret}
	var out bytes.Buffer
	for _, v := range []any{secret, &secret, one, &one, []webhooksig.Secret{secret}, map[string]webhooksig.Secret{"s": secret}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%T"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		_ = json.NewEncoder(&out).Encode(v)
	}
	_ = json.NewEncoder(&out).Encode(map[webhooksig.Secret]int{secret: 1})
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("sent", "secret", secret, "one", one, slog.Group("g", "p", &secret))
	}
	fmt.Fprintln(&out, secret.String(), secret.GoString(), secret.LogValue())
	for _, form := range []string{
		text, fmt.Sprintf("%x", text), fmt.Sprintf("%X", text), fmt.Sprintf("% x", text),
		strings.Trim(fmt.Sprintf("%d", []byte(text)), "[]"), base64.StdEncoding.EncodeToString([]byte(text)),
	} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret is shown as %s in\n%s", form, out.String())
		}
	}
	if !strings.Contains(out.String(), "whsec_***") {
		t.Errorf("nothing stands for the secret in\n%s", out.String())
	}
	_ = one.hidden
}

func FuzzParseSecret(f *testing.F) {
	for _, text := range []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "It's a Secret to Everybody", "whsec_", "\xff", " whsec_AA=="} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := webhooksig.ParseSecret(text)
		if err != nil {
			if !s.IsZero() {
				t.Fatal("an error and a secret")
			}
			return
		}
		if s.Reveal() != text {
			t.Fatalf("revealed %q, parsed %q", s.Reveal(), text)
		}
		if webhooksig.SignBody(nil, s) == "" {
			t.Fatal("it does not sign")
		}
	})
}
