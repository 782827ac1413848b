package webhooksig

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Limits of a secret.
const (
	minKey  = 24  // bytes that a whsec_ secret holds at least
	maxKey  = 64  // bytes that a whsec_ secret holds at most
	minText = 8   // characters of a plain secret at least
	maxText = 256 // bytes of any secret's text at most
)

const (
	prefix   = "whsec_"
	newKey   = 32 // bytes
	redacted = "whsec_***"
)

// Secret is what sender and receiver share. It shows itself to nobody but the
// caller of Reveal: printed, logged or marshalled it is whsec_***. The zero
// Secret is not a secret: it signs nothing and verifies nothing. Secrets may be
// copied, and used by several goroutines at once.
type Secret struct {
	// If a Secret is in an unexported field, fmt cannot call its methods, and for
	// some verbs prints what is behind one pointer. It never follows two.
	at **secret
}

type secret struct {
	text string
	v1   macs // of Standard Webhooks: keyed with the decoded bytes
	body macs // of X-Webhook-Signature: keyed with the text
}

// ParseSecret reads the text form of a secret: whsec_ with the base64 of 24 to 64
// bytes, or any text of 8 characters and more, whose bytes are the key (what
// libraries for Standard Webhooks call the raw format). Its errors do not hold the text.
func ParseSecret(text string) (Secret, error) {
	if len(text) > maxText {
		return Secret{}, fmt.Errorf("the secret is %d bytes: use at most %d", len(text), maxText)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return Secret{}, errors.New("the secret has a line break, another control character or invalid UTF-8: leave it out")
	}
	if strings.TrimSpace(text) != text {
		return Secret{}, errors.New("the secret begins or ends with a space: leave it out")
	}
	encoded, ok := strings.CutPrefix(text, prefix)
	if !ok {
		if n := utf8.RuneCountInString(text); n < minText {
			return Secret{}, fmt.Errorf("the secret is %d characters: use %d or more, or %s with the base64 of %d to %d random bytes", n, minText, prefix, minKey, maxKey)
		}
		return makeSecret(text, []byte(text)), nil
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		// The decoder's own error tells where; not here, to tell nothing of the secret.
		return Secret{}, fmt.Errorf("what follows %s in the secret is not base64 with padding", prefix)
	}
	if len(key) < minKey || len(key) > maxKey {
		return Secret{}, fmt.Errorf("the secret holds %d bytes behind %s: use %d to %d", len(key), prefix, minKey, maxKey)
	}
	return makeSecret(text, key), nil
}

// NewSecret makes a secret of 32 random bytes.
func NewSecret() Secret {
	key := make([]byte, newKey)
	_, _ = rand.Read(key) // never fails: it ends the program instead
	return makeSecret(prefix+base64.StdEncoding.EncodeToString(key), key)
}

func makeSecret(text string, key []byte) Secret {
	at := &secret{text: text, v1: macs{key: key}, body: macs{key: []byte(text)}}
	return Secret{&at}
}

// open returns what is inside; nil for the zero Secret.
func (s Secret) open() *secret {
	if s.at == nil {
		return nil
	}
	return *s.at
}

// Reveal returns the text form, which ParseSecret reads; "" for the zero Secret.
func (s Secret) Reveal() string {
	if one := s.open(); one != nil {
		return one.text
	}
	return ""
}

// IsZero reports whether it is the zero Secret.
func (s Secret) IsZero() bool { return s.at == nil }

// String hides the secret, as all that follow do.
func (s Secret) String() string { return redacted }

// GoString is for %#v.
func (s Secret) GoString() string { return redacted }

// Format is for every other verb: %x would show what %v hides.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue is for log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText is for encoders, JSON's among them.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON is for encoders that do not use MarshalText.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// macs keeps HMAC states that are keyed already: keying hashes two blocks and
// allocates, which for a short body is half of the work.
type macs struct {
	key  []byte
	idle sync.Pool // of *mac
}

// mac is one state, with room for what goes in and out, so that neither is
// allocated for each signature.
type mac struct {
	hash.Hash
	in  [128]byte
	sum [sha256.Size]byte
}

// take returns a state with nothing written to it; put returns it to the pool.
func (m *macs) take() *mac {
	if one, ok := m.idle.Get().(*mac); ok {
		one.Reset()
		return one
	}
	return &mac{Hash: hmac.New(sha256.New, m.key)}
}

func (m *macs) put(one *mac) { m.idle.Put(one) }
