package workloadapi

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sys/unix"
)

const (
	// rsaBits is the size SPIRE gives RSA authorities by default.
	rsaBits = 2048
	// rootsFile holds certificates and keys, so only its owner may read it.
	rootsFile = "roots.json"
	// BundleFile holds the certificates of all roots, in PEM: what another trust domain reads.
	BundleFile = "bundle.pem"
	// skew is how long before now a certificate is already valid, as with SPIRE.
	skew = 10 * time.Second
)

// state of a root, in the order of its life. All three are in the bundle.
type state string

const (
	prepared state = "prepared"
	active   state = "active"
	retired  state = "retired"
)

// root is an authority of the trust domain.
type root struct {
	State       state  `json:"state"`
	Certificate []byte `json:"certificate"`
	Key         []byte `json:"key"`
}

// signer is a certificate with its key.
type signer struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// roots is a folder that the servers of all nodes share, so that they are one trust domain.
type roots struct {
	dir    string
	domain spiffeid.TrustDomain
	rsa    bool
	life   time.Duration
}

// open makes the first root where there is none.
func (r roots) open() error {
	return r.change(func(list []root) ([]root, error) {
		if len(list) > 0 {
			return list, nil
		}
		first, err := r.issueRoot(active)
		return []root{first}, err
	})
}

// prepare adds a root that will sign later, so that everybody has it by then.
func (r roots) prepare() error {
	return r.change(func(list []root) ([]root, error) {
		next, err := r.issueRoot(prepared)
		return append(list, next), err
	})
}

// activate has the prepared root sign from now on.
func (r roots) activate() error {
	return r.change(func(list []root) ([]root, error) {
		for at := range list {
			if list[at].State == active {
				list[at].State = retired
			}
			if list[at].State == prepared {
				list[at].State = active
			}
		}
		return list, nil
	})
}

// prune takes the retired roots out of the bundle.
func (r roots) prune() error {
	return r.change(func(list []root) ([]root, error) {
		return slices.DeleteFunc(list, func(root root) bool { return root.State == retired }), nil
	})
}

// read returns the file's bytes too, by which a change is seen.
func (r roots) read() ([]root, []byte, error) {
	text, err := os.ReadFile(filepath.Join(r.dir, rootsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var list []root
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", rootsFile, err)
	}
	return list, text, nil
}

// change is for one process at a time; a reader sees the whole change or none of it.
func (r roots) change(how func([]root) ([]root, error)) error {
	lock, err := os.OpenFile(filepath.Join(r.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", r.dir, err)
	}
	list, _, err := r.read()
	if err != nil {
		return err
	}
	if list, err = how(list); err != nil {
		return err
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	var bundle bytes.Buffer
	for _, root := range list {
		if err := pem.Encode(&bundle, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return err
		}
	}
	if err := replace(filepath.Join(r.dir, BundleFile), bundle.Bytes(), 0o644); err != nil {
		return err
	}
	return replace(filepath.Join(r.dir, rootsFile), text, 0o600)
}

func replace(file string, text []byte, mode os.FileMode) error {
	draft := file + ".draft"
	if err := os.WriteFile(draft, text, mode); err != nil {
		return err
	}
	return os.Rename(draft, file)
}

func (r roots) issueRoot(state state) (root, error) {
	self, err := newAuthority(nil, r.domain, r.rsa, r.life)
	if err != nil {
		return root{}, fmt.Errorf("make a root: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(self.key)
	return root{State: state, Certificate: self.certificate.Raw, Key: key}, err
}

func (r root) signer() (signer, error) {
	certificate, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return signer{}, fmt.Errorf("%s: certificate: %w", rootsFile, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(r.Key)
	if err != nil {
		return signer{}, fmt.Errorf("%s: key: %w", rootsFile, err)
	}
	signing, ok := key.(crypto.Signer)
	if !ok {
		return signer{}, fmt.Errorf("%s: a key of type %T cannot sign", rootsFile, key)
	}
	return signer{certificate, signing}, nil
}

// newAuthority makes a root where parent is nil, else an intermediate.
func newAuthority(parent *signer, domain spiffeid.TrustDomain, useRSA bool, life time.Duration) (signer, error) {
	key, err := newKey(useRSA)
	if err != nil {
		return signer{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{Country: []string{"US"}, Organization: []string{"SPIFFE"}},
		URIs:                  []*url.URL{domain.ID().URL()},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	self := signer{template, key}
	if parent == nil {
		parent = &self
	}
	return issue(template, key, *parent)
}

func newKey(useRSA bool) (crypto.Signer, error) {
	if useRSA {
		return rsa.GenerateKey(rand.Reader, rsaBits)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func issue(template *x509.Certificate, key crypto.Signer, parent signer) (signer, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return signer{}, err
	}
	template.SerialNumber = serial
	if end := parent.certificate.NotAfter; template.NotAfter.After(end) {
		template.NotAfter = end
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.certificate, key.Public(), parent.key)
	if err != nil {
		return signer{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	return signer{certificate, key}, err
}
