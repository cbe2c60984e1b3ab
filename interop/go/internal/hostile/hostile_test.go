package hostile

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"interop/internal/identity"
	"interop/internal/policy"
	"interop/internal/registry"
	"interop/internal/serve"
	"interop/internal/testid"
)

// stand starts a registry as the Go implementation's is, and an attacker who knows its URL.
func stand(t *testing.T) func(options) *attacker {
	t.Helper()
	domain := testid.New(t, "test")
	own := domain.Source(t, "/registry", time.Hour)
	generator := identity.NewGenerator(own, time.Hour)
	policies := policy.MustLoad(policy.RegistryServer...)
	server := serve.New(identity.Server(own))
	server.Registry(registry.Services(generator, policies),
		registry.Endpoints(t.Context(), generator, policies, registry.Expiration))
	to := &url.URL{Scheme: "unix", Path: filepath.Join(t.TempDir(), "s")}
	if _, err := server.Start(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	mallory := domain.Source(t, "/mallory", time.Hour)
	return func(options options) *attacker {
		options.to = to
		options.skew, options.service, options.name = 10*time.Minute, "s", "mallory"
		options.victim = "spiffe://test/victim"
		a, err := newAttacker(t.Context(), mallory, options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.conn.Close() })
		return a
	}
}

// TestTheFieldsAnswers is what the Go implementation answers to each wrong token: where it says
// OK, or Unknown for want of a token, ours may be stricter.
func TestTheFieldsAnswers(t *testing.T) {
	as := stand(t)
	stolen := filepath.Join(t.TempDir(), "token")
	victims := as(options{})
	token, err := victims.forge("spiffe://test/victim", victims.server)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stolen, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[string]codes.Code{
		"honest":         codes.OK,
		"missing-expiry": codes.PermissionDenied,
		"bad-expiry":     codes.PermissionDenied,
		"no-token":       codes.PermissionDenied,
		"two-tokens":     codes.PermissionDenied,
		"two-expiries":   codes.PermissionDenied,
		"not-a-token":    codes.PermissionDenied,
		"clock-ahead":    codes.OK,
		"clock-behind":   codes.PermissionDenied,
		"expired":        codes.PermissionDenied,
		"no-exp":         codes.PermissionDenied,
		"over-long":      codes.OK,
		"huge-token":     codes.OK,
		"wrong-audience": codes.PermissionDenied,
		"no-audience":    codes.PermissionDenied,
		"audience-text":  codes.PermissionDenied,
		"wrong-subject":  codes.OK,
		"alg-none":       codes.PermissionDenied,
		"rsa-token":      codes.PermissionDenied,
		"bad-signature":  codes.PermissionDenied,
		"replayed":       codes.OK,
	}
	for name := range badTokens {
		if _, listed := want[name]; !listed {
			t.Errorf("%s is not in the table", name)
		}
	}
	for name, code := range want {
		// A service of its own each: a name would be somebody's after the first.
		a := as(options{call: "service", token: stolen})
		a.service = name
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, err := a.run(ctx, name)
		cancel()
		if status.Code(err) != code {
			t.Errorf("%s: got %v, want %v", name, err, code)
		}
	}
}

func TestWhatIsSent(t *testing.T) {
	as := stand(t)
	for _, row := range []struct {
		name    string
		options options
		code    codes.Code
		sent    int
	}{
		{"truncated", options{count: 3}, codes.OK, 3},
		{"descriptor-many", options{count: 100}, codes.OK, 100},
		{"giant-path", options{call: "register", count: 1000}, codes.PermissionDenied, 0},
		{"index-beyond", options{call: "register"}, codes.Unknown, 0},
		{"forged-owner", options{}, codes.OK, 0},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		answer, err := as(row.options).run(ctx, row.name)
		cancel()
		if status.Code(err) != row.code || answer.Sent != row.sent {
			t.Errorf("%s: got %v, %d sent, want %v, %d", row.name, err, answer.Sent, row.code, row.sent)
		}
	}
}
