package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/address"
)

// Kind is what ended an attempt, in stable words: for metrics, and to branch on.
type Kind string

// The kinds. None is a response's status: a response is not an error here.
const (
	RefusedAddress Kind = "refused address"    // the policy does not allow it
	RefusedURL     Kind = "refused url"        // the policy does not allow it, or it is not an http URL
	Cancelled      Kind = "cancelled"          // by the caller
	Timeout        Kind = "timeout"            // the detail says in which phase
	Proxy          Kind = "proxy failure"      // the proxy cannot be reached, or refuses
	DNS            Kind = "dns failure"        // the name does not resolve
	NotListening   Kind = "connection refused" // by the receiver's machine
	Unreachable    Kind = "unreachable"        // no route
	Reset          Kind = "connection reset"   // by the receiver
	TLS            Kind = "tls failure"        // the detail says which
	LargeHeader    Kind = "response header too large"
	CutOff         Kind = "unexpected eof" // the connection ended before the response did
	NotHTTP        Kind = "malformed response"
	Other          Kind = "failed"
)

// Describe says in a short line what went wrong in an attempt: a [Kind], and
// and, if there is more to say, ": " and a detail. It holds nothing of the URL, no
// credentials and no text of the receiver's. It is "" for nil.
func Describe(err error) string {
	if err == nil {
		return ""
	}
	kind, detail := explain(err)
	if detail == "" {
		return string(kind)
	}
	return string(kind) + ": " + detail
}

// KindOf is the kind that [Describe] begins with; "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	kind, _ := explain(err)
	return kind
}

func explain(err error) (Kind, string) {
	if refused, ok := errors.AsType[*address.RefusedError](err); ok {
		return RefusedAddress, refused.Error()
	}
	if bad, ok := errors.AsType[*buildcast.Error](err); ok && bad.Field == "url" {
		return RefusedURL, bad.Message
	}
	if errors.Is(err, context.Canceled) {
		return Cancelled, ""
	}
	if proxy, ok := errors.AsType[*proxyError](err); ok {
		return Proxy, proxy.Error()
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "proxyconnect" {
		return Proxy, Describe(op.Err)
	}
	if isTimeout(err) {
		return Timeout, phaseOf(err)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return DNS, "the name does not exist"
		}
		return DNS, "the resolver does not answer"
	}
	if detail := explainTLS(err); detail != "" {
		return TLS, detail
	}
	return explainConnection(err), ""
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

func phaseOf(err error) string {
	if p, ok := errors.AsType[*phaseError](err); ok {
		return p.phase.String()
	}
	return ""
}

// explainTLS is "" for an error that is not TLS's.
func explainTLS(err error) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if invalid.Reason == x509.Expired {
			return "the certificate has expired, or is not valid yet"
		}
		return "the certificate is not valid"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate is for another host name"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the certificate's authority is not known"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "the certificate cannot be verified"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return "the receiver does not speak TLS"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return "the receiver ends it with the alert " + strings.TrimPrefix(op.Err.Error(), "tls: ")
	}
	if phaseOf(err) != phaseTLS.String() {
		return ""
	}
	if kind := explainConnection(err); kind != Other {
		return string(kind) + " during the handshake"
	}
	return "the handshake fails"
}

func explainConnection(err error) Kind {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return NotListening
	case isReset(err):
		return Reset
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return Unreachable
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return CutOff
	}
	// net/http has no types for these; a test of each tells when its words change.
	text := inner(err).Error()
	switch {
	case strings.Contains(text, "server response headers exceeded"), strings.Contains(text, "header list larger than"):
		return LargeHeader
	case strings.Contains(text, "stream error: "):
		return Reset
	case strings.Contains(text, "server closed"), strings.Contains(text, "GOAWAY"):
		return CutOff
	case strings.Contains(text, "malformed "), strings.Contains(text, "bad Content-Length"), strings.Contains(text, "chunk length"),
		strings.Contains(text, "connection error: "), strings.Contains(text, "http2: "):
		return NotHTTP
	}
	return Other
}

// isReset reports whether the other side's machine ended the connection.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}

// inner is err without the URL that http.Client adds.
func inner(err error) error {
	if p, ok := errors.AsType[*phaseError](err); ok {
		return p.err
	}
	return err
}
