// Package start is what every role does before it is one: logging, identity, how to dial.
package start

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"

	"interop/internal/config"
	"interop/internal/dial"
	"interop/internal/identity"
)

// Role is what a role has to start with.
type Role struct {
	// Env is its settings.
	Env *config.Env
	// Name is NSM_NAME.
	Name string
	// Source of its SVID.
	Source *workloadapi.X509Source
	// Generator of its tokens.
	Generator identity.Generator
}

// New reads what every role reads, and waits for the SVID. Log lines are key=value.
func New(ctx context.Context, name string) (*Role, error) {
	env := &config.Env{}
	level := slog.LevelInfo
	if strings.EqualFold(env.String("NSM_LOG_LEVEL", "INFO"), "DEBUG") || strings.EqualFold(env.String("NSM_LOG_LEVEL", "INFO"), "TRACE") {
		level = slog.LevelDebug
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	role := &Role{Env: env, Name: env.String("NSM_NAME", name)}
	life := env.Duration("NSM_MAX_TOKEN_LIFETIME", 10*time.Minute)
	if err := env.Err(); err != nil {
		return nil, err
	}
	source, err := identity.Open(ctx)
	if err != nil {
		return nil, err
	}
	svid, err := source.GetX509SVID()
	if err != nil {
		return nil, err
	}
	slog.Info("identified", "id", svid.ID.String(), "until", svid.Certificates[0].NotAfter)
	role.Source, role.Generator = source, identity.NewGenerator(source, life)
	return role, nil
}

// Dial is how the role dials.
func (r *Role) Dial(timeout time.Duration) dial.Options {
	return dial.Options{Timeout: timeout, GRPC: r.DialOptions()}
}

// DialOptions is the same for who dials by hand.
func (r *Role) DialOptions() []grpc.DialOption {
	return identity.DialOptions(r.Source, r.Generator)
}
