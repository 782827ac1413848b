package proxytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Hosts of the documentation.
const (
	Host       = "builds.example.com"
	SharedHost = "example.com" // a site that serves buildcast below a path
)

// certificate is a self-signed certificate of the documentation's hosts.
var certificate = sync.OnceValues(func() (certificate, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: Host},
		DNSNames:  []string{Host, SharedHost, "*.previews.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
})

// writeCertificate writes the files that the documentation's configurations name.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	cert, key := certificate()
	for name, content := range map[string][]byte{
		"buildcast.pem": cert, "buildcast.key": key, "buildcast-with-key.pem": append(append([]byte{}, cert...), key...),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Roots returns a pool that trusts the certificate.
func Roots() *x509.CertPool {
	cert, _ := certificate()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	return roots
}
