package webhooksig

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Tolerance is how far a request's timestamp may be from now, both ways, unless
// a Verifier says otherwise.
const Tolerance = 5 * time.Minute

// Why a request is not accepted; for errors.Is.
var (
	ErrMissingHeader = errors.New("a header of the signature is missing")
	ErrTimestamp     = errors.New("the webhook-timestamp is not within the tolerance")
	ErrNoMatch       = errors.New("no signature of the request is by one of the secrets")
)

// Verifier checks requests. Verify is its short form.
type Verifier struct {
	// Secrets are the ones that a request may be signed with: one, or two while a
	// secret is being replaced.
	Secrets []Secret
	// Tolerance is how far the timestamp may be from now, both ways; 0: 5 minutes.
	Tolerance time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Verify checks that the request with the headers and exactly the bytes of body
// was signed with one of the secrets, within the last 5 minutes. The error is
// ErrMissingHeader, ErrTimestamp or ErrNoMatch, with details that may be logged.
// A receiver that must not act twice remembers the webhook-id of what it has done.
func Verify(header http.Header, body []byte, secrets ...Secret) error {
	return Verifier{Secrets: secrets}.Verify(header, body)
}

// Verify is the function Verify with the settings of v.
func (v Verifier) Verify(header http.Header, body []byte) error {
	for _, name := range [...]string{HeaderID, HeaderTimestamp, HeaderSignature} {
		if header.Get(name) == "" {
			return fmt.Errorf("%w: %s", ErrMissingHeader, strings.ToLower(name))
		}
	}
	unix, err := v.timestamp(header.Get(HeaderTimestamp))
	if err != nil {
		return err
	}
	for _, s := range v.Secrets {
		if s.IsZero() {
			continue
		}
		var room [v1Len]byte
		want := s.open().appendV1(room[:0], header.Get(HeaderID), unix, body)
		for given := range strings.FieldsSeq(header.Get(HeaderSignature)) {
			if same(want, given) {
				return nil
			}
		}
	}
	return ErrNoMatch
}

// timestamp reads the header and compares it with the clock.
func (v Verifier) timestamp(text string) (unix int64, err error) {
	unix, err = strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(unix, 10) != text {
		return 0, fmt.Errorf("%w: it is not a number of Unix seconds", ErrTimestamp)
	}
	now, tolerance := time.Now, Tolerance
	if v.Now != nil {
		now = v.Now
	}
	if v.Tolerance > 0 {
		tolerance = v.Tolerance
	}
	// As seconds, because a time far from now has a Duration that is cut off.
	off, limit := now().Unix()-unix, int64(tolerance/time.Second)
	switch {
	case unix < 0 || off > limit:
		return 0, fmt.Errorf("%w: the request is older than %v", ErrTimestamp, tolerance)
	case off < -limit:
		return 0, fmt.Errorf("%w: the request is more than %v ahead of this clock", ErrTimestamp, tolerance)
	}
	return unix, nil
}

// VerifyBody checks the X-Webhook-Signature header, for receivers that check no
// other. Anybody who has seen a request can send it again: prefer Verify. The error
// is ErrMissingHeader or ErrNoMatch.
func VerifyBody(header http.Header, body []byte, secrets ...Secret) error {
	given := header.Get(HeaderBodySignature)
	if given == "" {
		return fmt.Errorf("%w: %s", ErrMissingHeader, strings.ToLower(HeaderBodySignature))
	}
	for _, s := range secrets {
		var room [2 * sha256.Size]byte
		if !s.IsZero() && same(s.open().appendBody(room[:0], body), given) {
			return nil
		}
	}
	return ErrNoMatch
}

// same compares without telling by its time where the two differ.
func same(want []byte, given string) bool {
	return subtle.ConstantTimeCompare(want, []byte(given)) == 1
}
