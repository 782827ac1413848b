package webhook

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"strings"
	"testing"
)

// What is sealed for one endpoint is of no use to another, nor when it is damaged.
func TestSealedIsBound(t *testing.T) {
	block, err := aes.NewCipher([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	key, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	s := sealer{key}
	sealed, err := s.encrypt("one", []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := s.decrypt("one", sealed); err != nil || string(text) != "text" {
		t.Errorf("%q %v", text, err)
	}
	for name, do := range map[string]func() ([]byte, error){
		"of another endpoint": func() ([]byte, error) { return s.decrypt("two", sealed) },
		"a bit turned":        func() ([]byte, error) { b := bytes.Clone(sealed); b[len(b)-1] ^= 1; return s.decrypt("one", b) },
		"cut short":           func() ([]byte, error) { return s.decrypt("one", sealed[:5]) },
		"nothing":             func() ([]byte, error) { return s.decrypt("one", nil) },
		"of no kind":          func() ([]byte, error) { return s.decrypt("one", []byte("x")) },
	} {
		if text, err := do(); err == nil || text != nil || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %q %v", name, text, err)
		}
	}
}
