// Package testid makes identities for tests in one process: a trust domain with sources that look
// like those of a Workload API.
package testid

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Domain is a trust domain with one root.
type Domain struct {
	name   spiffeid.TrustDomain
	root   *x509.Certificate
	key    crypto.Signer
	bundle *x509bundle.Bundle
}

// Source is an identity of a domain: it gives always the same SVID.
type Source struct {
	*x509bundle.Bundle
	SVID *x509svid.SVID
}

// GetX509SVID returns the SVID.
func (s *Source) GetX509SVID() (*x509svid.SVID, error) { return s.SVID, nil }

// New makes a trust domain.
func New(t *testing.T, name string) *Domain {
	t.Helper()
	domain := &Domain{name: spiffeid.RequireTrustDomainFromString(name)}
	template := &x509.Certificate{
		URIs:                  []*url.URL{domain.name.ID().URL()},
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	domain.root, domain.key = domain.issue(t, template, time.Hour)
	domain.bundle = x509bundle.FromX509Authorities(domain.name, []*x509.Certificate{domain.root})
	return domain
}

// Source makes an identity with this path, valid for so long.
func (d *Domain) Source(t *testing.T, path string, life time.Duration) *Source {
	t.Helper()
	id := spiffeid.RequireFromPath(d.name, path)
	certificate, key := d.issue(t, &x509.Certificate{
		URIs:        []*url.URL{id.URL()},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, life)
	return &Source{d.bundle, &x509svid.SVID{ID: id, Certificates: []*x509.Certificate{certificate}, PrivateKey: key}}
}

// issue signs with the root, or with the new key itself while there is no root.
func (d *Domain) issue(t *testing.T, template *x509.Certificate, life time.Duration) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(life)
	parent, signer := d.root, d.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}
