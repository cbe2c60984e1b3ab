package workloadapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// patience is the most that anything here may take on a busy machine.
const patience = 30 * time.Second

// stand starts a server that knows this process if it has an entry.
func stand(t *testing.T, change func(*Config)) (Config, *workloadapi.Client) {
	t.Helper()
	dir := t.TempDir()
	config := Config{
		Domain:  spiffeid.RequireTrustDomainFromString("one.test"),
		Socket:  filepath.Join(dir, "s"),
		Dir:     dir,
		Entries: filepath.Join(dir, "entries.yaml"),
		Lives:   Lives{SVID: time.Minute, Rotate: time.Minute, Root: time.Hour},
	}
	change(&config)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serveAPI(ctx, config) }()
	t.Cleanup(func() {
		stop()
		<-done
	})
	client, err := workloadapi.New(ctx, workloadapi.WithAddr("unix://"+config.Socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return config, client
}

func enroll(t *testing.T, config Config) {
	t.Helper()
	text := fmt.Sprintf("entries:\n  - id: spiffe://%s/me\n    selectors: { pid: %d }\n", config.Domain, os.Getpid())
	if err := replace(config.Entries, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ready func(context.Context) bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	for !ready(ctx) {
		if ctx.Err() != nil {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(look)
	}
}

func TestNobodyWithoutAnEntry(t *testing.T) {
	config, client := stand(t, func(*Config) {})
	eventually(t, "denied", func(ctx context.Context) bool {
		_, err := client.FetchX509Context(ctx)
		return status.Code(err) == codes.PermissionDenied
	})
	enroll(t, config)
	eventually(t, "an SVID", func(ctx context.Context) bool {
		_, err := client.FetchX509Context(ctx)
		return err == nil
	})
}

func TestChains(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*Config)
		chain  []x509.PublicKeyAlgorithm
	}{
		{"plain", func(*Config) {}, []x509.PublicKeyAlgorithm{x509.ECDSA}},
		{"intermediate", func(c *Config) { c.Intermediate = true }, []x509.PublicKeyAlgorithm{x509.ECDSA, x509.ECDSA}},
		{"RSA authorities", func(c *Config) { c.RSA = true }, []x509.PublicKeyAlgorithm{x509.ECDSA, x509.RSA}},
	} {
		t.Run(row.name, func(t *testing.T) {
			config, client := stand(t, row.change)
			enroll(t, config)
			var has *workloadapi.X509Context
			eventually(t, "an SVID", func(ctx context.Context) (ok bool) {
				var err error
				has, err = client.FetchX509Context(ctx)
				return err == nil
			})
			svid := has.DefaultSVID()
			var chain []x509.PublicKeyAlgorithm
			for _, certificate := range svid.Certificates {
				chain = append(chain, certificate.PublicKeyAlgorithm)
			}
			if fmt.Sprint(chain) != fmt.Sprint(row.chain) {
				t.Errorf("the chain is %v, want %v", chain, row.chain)
			}
			if _, ok := svid.PrivateKey.(*ecdsa.PrivateKey); !ok {
				t.Errorf("the key is %T", svid.PrivateKey)
			}
			if id, _, err := x509svid.Verify(svid.Certificates, has.Bundles); err != nil || id.Path() != "/me" {
				t.Errorf("verified as %q: %v", id, err)
			}
		})
	}
}

func TestHintsAndFederation(t *testing.T) {
	other, _ := stand(t, func(c *Config) { c.Domain = spiffeid.RequireTrustDomainFromString("two.test") })
	config, client := stand(t, func(c *Config) {
		c.Hints = []string{"internal", "external"}
		c.Federated = []Federated{{other.Domain, filepath.Join(other.Dir, BundleFile)}}
	})
	enroll(t, config)
	var has *workloadapi.X509Context
	eventually(t, "the other domain's bundle", func(ctx context.Context) bool {
		var err error
		has, err = client.FetchX509Context(ctx)
		return err == nil && has.Bundles.Has(other.Domain)
	})
	var got []string
	for _, svid := range has.SVIDs {
		got = append(got, svid.ID.Path()+" "+svid.Hint)
	}
	if fmt.Sprint(got) != "[/me  /me/internal internal /me/external external]" {
		t.Errorf("got %q", got)
	}
}

// TestRotation holds that a go-spiffe client sees new SVIDs and replaced roots although its streams
// are cut all the time, and that the SVID it has is always one its bundle verifies.
func TestRotation(t *testing.T) {
	config, _ := stand(t, func(c *Config) {
		c.Rotate = 200 * time.Millisecond
		c.CutStreams = 350 * time.Millisecond
		c.RotateRoot = 1500 * time.Millisecond
		c.RSA = true
	})
	enroll(t, config)
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+config.Socket)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	serials, roots, most := map[string]bool{}, map[string]bool{}, 0
	for len(serials) < 10 || len(roots) < 3 {
		if ctx.Err() != nil {
			t.Fatalf("saw %d SVIDs and %d roots", len(serials), len(roots))
		}
		bundle, err := source.GetX509BundleForTrustDomain(config.Domain)
		if err != nil {
			t.Fatal(err)
		}
		svid, err := source.GetX509SVID()
		if err != nil {
			t.Fatal(err)
		}
		serials[svid.Certificates[0].SerialNumber.String()] = true
		for _, root := range bundle.X509Authorities() {
			roots[root.SerialNumber.String()] = true
		}
		most = max(most, len(bundle.X509Authorities()))
		// The SVID is read after the bundle, so it may be newer: then look again.
		if again, _ := source.GetX509BundleForTrustDomain(config.Domain); again.Equal(bundle) {
			if _, _, err := x509svid.Verify(svid.Certificates, bundle); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	if most != 2 {
		t.Errorf("%d roots at once, want the old and the new one", most)
	}
}
