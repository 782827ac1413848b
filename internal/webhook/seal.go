package webhook

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/webhook/delivery"
	"github.com/buildcast/buildcast/webhooksig"
)

// The first byte of what is sealed says how.
const (
	sealedPlain     = 'p'
	sealedEncrypted = 'e'
)

var errDamaged = errors.New("its secret, as it is stored, is damaged: delete the endpoint and create it again")

// sealer turns secrets and the values of headers into what is stored, and back. With
// a key it encrypts them.
type sealer struct{ key cipher.AEAD }

// sealed is what an endpoint's secret part holds.
type sealed struct {
	Secret   string            `json:"secret"`
	Previous string            `json:"previous,omitempty"`
	Values   map[string]string `json:"headers,omitempty"` // of headers
}

// open makes the endpoint of a stored one.
func (s sealer) open(e store.Endpoint) (*delivery.Endpoint, error) {
	text, err := s.decrypt(e.ID, e.Sealed)
	if err != nil {
		return nil, err
	}
	var in sealed
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, errDamaged
	}
	ep := &delivery.Endpoint{Endpoint: e, Values: in.Values}
	if ep.Secret, err = webhooksig.ParseSecret(in.Secret); err != nil {
		return nil, err
	}
	if in.Previous != "" {
		if ep.Previous, err = webhooksig.ParseSecret(in.Previous); err != nil {
			return nil, err
		}
	}
	return ep, nil
}

// close puts the endpoint's secrets and headers into the form that is stored.
func (s sealer) close(ep *delivery.Endpoint) error {
	text, err := json.Marshal(sealed{Secret: ep.Secret.Reveal(), Previous: ep.Previous.Reveal(), Values: ep.Values})
	if err != nil {
		return err
	}
	ep.Sealed, err = s.encrypt(ep.ID, text)
	return err
}

// encrypt binds the text to the endpoint's id, so that it cannot be moved to another
// endpoint.
func (s sealer) encrypt(id string, text []byte) ([]byte, error) {
	if s.key == nil {
		return append([]byte{sealedPlain}, text...), nil
	}
	nonce := make([]byte, s.key.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return s.key.Seal(append([]byte{sealedEncrypted}, nonce...), nonce, text, []byte(id)), nil
}

func (s sealer) decrypt(id string, sealed []byte) ([]byte, error) {
	switch {
	case len(sealed) > 0 && sealed[0] == sealedPlain:
		return sealed[1:], nil
	case len(sealed) == 0 || sealed[0] != sealedEncrypted:
		return nil, errDamaged
	case s.key == nil:
		return nil, errors.New("its secret is encrypted: start the server with the --webhook-key that it was made with")
	}
	rest := sealed[1:]
	if n := s.key.NonceSize(); len(rest) >= n {
		if text, err := s.key.Open(nil, rest[:n], rest[n:], []byte(id)); err == nil {
			return text, nil
		}
	}
	return nil, errors.New("its secret was encrypted with another --webhook-key")
}

// sealPlain encrypts what was stored before there was a key.
func (s *endpoints) sealPlain(ctx context.Context) error {
	if s.seal.key == nil {
		return nil
	}
	all, err := s.store.ListEndpoints(ctx)
	if err != nil {
		return err
	}
	for _, e := range all {
		if len(e.Sealed) == 0 || e.Sealed[0] != sealedPlain {
			continue
		}
		_, err := s.Alter(ctx, e.ID, func(*delivery.Endpoint) error { return nil })
		if err != nil && buildcast.CodeOf(err) != buildcast.NotFound {
			return err
		}
	}
	return nil
}
