package webhooksig

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"
)

// The headers of a signed request.
const (
	HeaderID            = "Webhook-Id"          // the message: the same for each attempt
	HeaderTimestamp     = "Webhook-Timestamp"   // when the attempt was made, Unix seconds
	HeaderSignature     = "Webhook-Signature"   // what Sign returns
	HeaderBodySignature = "X-Webhook-Signature" // what SignBody returns
)

const (
	version = "v1,"
	v1Len   = len(version) + (sha256.Size+2)/3*4
)

// Sign returns the webhook-signature header of Standard Webhooks: a v1 signature of
// each secret, with spaces between. While a secret is being replaced, sign with
// the new one and the one before, so that receivers find theirs. at counts in
// whole seconds, as in webhook-timestamp.
func Sign(id string, at time.Time, body []byte, secrets ...Secret) string {
	// Room for the two of a rotation, on the stack.
	header := make([]byte, 0, 2*(v1Len+1))
	for _, s := range secrets {
		if s.IsZero() {
			continue
		}
		if len(header) > 0 {
			header = append(header, ' ')
		}
		header = s.open().appendV1(header, id, at.Unix(), body)
	}
	return string(header)
}

// SignBody returns the X-Webhook-Signature header: the HMAC-SHA256 of the body, in
// lower-case hex, keyed with the secret's text as it is written. It is for
// receivers that know no Standard Webhooks; without a time in it, it does not
// tell a repeated request from the first. "" for the zero Secret.
func SignBody(body []byte, secret Secret) string {
	if secret.IsZero() {
		return ""
	}
	var room [2 * sha256.Size]byte
	return string(secret.open().appendBody(room[:0], body))
}

func (s *secret) appendV1(b []byte, id string, unix int64, body []byte) []byte {
	m := s.v1.take()
	defer s.v1.put(m)
	head := append(m.in[:0], id...)
	head = append(head, '.')
	head = strconv.AppendInt(head, unix, 10)
	m.Write(append(head, '.'))
	m.Write(body)
	b = append(b, version...)
	return base64.StdEncoding.AppendEncode(b, m.Sum(m.sum[:0]))
}

func (s *secret) appendBody(b, body []byte) []byte {
	m := s.body.take()
	defer s.body.put(m)
	m.Write(body)
	return hex.AppendEncode(b, m.Sum(m.sum[:0]))
}
