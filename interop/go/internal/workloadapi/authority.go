package workloadapi

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Lives says how certificates are made and how long they last.
type Lives struct {
	// SVID is how long an SVID is valid.
	SVID time.Duration
	// Rotate is the age at which it is replaced.
	Rotate time.Duration
	// Root is how long a root and an intermediate are valid.
	Root time.Duration
	// RSA keys for roots and intermediates, which there are then; SVIDs stay P-256.
	RSA bool
	// RSASvid gives SVIDs RSA keys, with which nobody can sign a token.
	RSASvid bool
	// Intermediate puts an authority of this server between root and SVID.
	Intermediate bool
}

// authority signs SVIDs and keeps them until they are due.
type authority struct {
	roots roots
	lives Lives

	mu sync.Mutex
	// text is the roots' file as last read.
	text   string
	bundle []byte
	// chain is what goes after an SVID; empty where the root itself signs.
	chain  []byte
	signer signer
	svids  map[identity]svid
}

// identity is what an SVID is kept by: selectors may change without a new SVID.
type identity struct{ id, hint string }

type svid struct {
	message *workload.X509SVID
	due     time.Time
}

func newAuthorityOf(roots roots, lives Lives) (*authority, error) {
	if err := roots.open(); err != nil {
		return nil, err
	}
	authority := &authority{roots: roots, lives: lives}
	_, err := authority.reload()
	return authority, err
}

// reload looks at the roots again and tells whether they changed.
func (a *authority) reload() (bool, error) {
	list, text, err := a.roots.read()
	if err != nil {
		return false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.text == string(text) {
		return false, nil
	}
	var bundle []byte
	var signing *root
	for at, root := range list {
		bundle = append(bundle, root.Certificate...)
		if root.State == active {
			signing = &list[at]
		}
	}
	if signing == nil {
		return false, errors.New("no root is active")
	}
	top, err := signing.signer()
	if err != nil {
		return false, err
	}
	// A root that only joined or left the bundle changes no SVID.
	if err := a.sign(top); err != nil {
		return false, err
	}
	a.text, a.bundle = string(text), bundle
	return true, nil
}

func (a *authority) sign(top signer) error {
	below := a.lives.Intermediate || a.lives.RSA
	if a.signer.certificate != nil {
		current := a.signer.certificate
		if !below && current.Equal(top.certificate) || below && current.CheckSignatureFrom(top.certificate) == nil {
			return nil
		}
	}
	a.chain, a.svids = nil, make(map[identity]svid)
	if below {
		own, err := newAuthority(&top, a.roots.domain, a.lives.RSA, a.lives.Root)
		if err != nil {
			return err
		}
		a.chain, top = own.certificate.Raw, own
	}
	a.signer = top
	return nil
}

// bundleNow returns the certificates of all roots, one after the other.
func (a *authority) bundleNow() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bundle
}

// svid returns the SVID of an entry and when there will be a newer one.
func (a *authority) svid(entry Entry) (*workload.X509SVID, time.Time, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := identity{entry.ID.String(), entry.Hint}
	known, ok := a.svids[key]
	if !ok || !time.Now().Before(known.due) {
		message, err := a.issueSVID(entry.ID)
		if err != nil {
			return nil, time.Time{}, err
		}
		known = svid{message, time.Now().Add(a.lives.Rotate)}
		a.svids[key] = known
	}
	return &workload.X509SVID{
		SpiffeId:    known.message.GetSpiffeId(),
		X509Svid:    known.message.GetX509Svid(),
		X509SvidKey: known.message.GetX509SvidKey(),
		Bundle:      a.bundle,
		Hint:        entry.Hint,
	}, known.due, nil
}

func (a *authority) issueSVID(id spiffeid.ID) (*workload.X509SVID, error) {
	key, err := newKey(a.lives.RSASvid)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{Country: []string{"US"}, Organization: []string{"SPIRE"}},
		URIs:                  []*url.URL{id.URL()},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(a.lives.SVID),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	leaf, err := issue(template, key, a.signer)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	return &workload.X509SVID{
		SpiffeId:    id.String(),
		X509Svid:    append(leaf.certificate.Raw, a.chain...),
		X509SvidKey: private,
	}, err
}
