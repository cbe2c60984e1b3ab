package workloadapi

import (
	"context"
	"crypto/x509"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Issuer gives SVIDs of a trust domain to who plays several of its workloads in one process.
type Issuer struct {
	authority *authority
	domain    spiffeid.TrustDomain
}

// Source is one identity, which stays as it is.
type Source struct {
	*x509bundle.Bundle
	svid *x509svid.SVID
}

// GetX509SVID returns it.
func (s *Source) GetX509SVID() (*x509svid.SVID, error) { return s.svid, nil }

// NewIssuer opens the folder of a domain's roots; servers that share it are of the same domain.
func NewIssuer(dir string, domain spiffeid.TrustDomain, lives Lives) (*Issuer, error) {
	authority, err := newAuthorityOf(roots{dir: dir, domain: domain, rsa: lives.RSA, life: lives.Root}, lives)
	return &Issuer{authority, domain}, err
}

// Source makes an identity.
func (i *Issuer) Source(id spiffeid.ID) (*Source, error) {
	message, _, err := i.authority.svid(Entry{ID: id})
	if err != nil {
		return nil, err
	}
	svid, err := x509svid.ParseRaw(message.GetX509Svid(), message.GetX509SvidKey())
	if err != nil {
		return nil, err
	}
	all, err := x509.ParseCertificates(message.GetBundle())
	if err != nil {
		return nil, err
	}
	return &Source{x509bundle.FromX509Authorities(i.domain, all), svid}, nil
}

// Serve answers the Workload API until the context ends.
func Serve(ctx context.Context, config Config) error { return serveAPI(ctx, config) }
