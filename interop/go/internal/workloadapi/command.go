package workloadapi

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
)

// Config is what a server is told.
type Config struct {
	Lives
	// Domain is the trust domain.
	Domain spiffeid.TrustDomain
	// Socket is the path of the unix socket; what is there is replaced.
	Socket string
	// Dir holds the roots; servers that share it are one trust domain.
	Dir string
	// Entries is the file of entries.
	Entries string
	// CutStreams is how long a stream lives; 0 is for ever.
	CutStreams time.Duration
	// RotateRoot is how often the root is replaced; 0 is never. One server of a domain does it.
	RotateRoot time.Duration
	// Hints give every workload, for each, one more SVID: its own path and the hint.
	Hints []string
	// Federated are the other trust domains.
	Federated []Federated
}

// Run is the command `workload-api`. With the argument "rotate" it only replaces the root: prepare,
// activate or prune, as the second argument says.
func Run(ctx context.Context, args []string) error {
	config, rest, err := parse(args)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return serveAPI(ctx, config)
	}
	roots := roots{dir: config.Dir, domain: config.Domain, rsa: config.RSA, life: config.Root}
	switch strings.Join(rest, " ") {
	case "rotate prepare":
		return roots.prepare()
	case "rotate activate":
		return roots.activate()
	case "rotate prune":
		return roots.prune()
	default:
		return fmt.Errorf("unknown arguments %q; there is: rotate prepare, rotate activate, rotate prune", rest)
	}
}

func parse(args []string) (Config, []string, error) {
	var config Config
	flags := flag.NewFlagSet("workload-api", flag.ContinueOnError)
	domain := flags.String("trust-domain", "nsm.lab", "the trust domain")
	flags.StringVar(&config.Socket, "socket", "", "path of the unix socket")
	flags.StringVar(&config.Dir, "dir", "", "folder of the roots, shared by all servers of the domain")
	flags.StringVar(&config.Entries, "entries", "", "YAML file of entries, as that of nsm ca")
	flags.DurationVar(&config.SVID, "svid-life", time.Hour, "how long an SVID is valid")
	flags.DurationVar(&config.Rotate, "rotate-every", 0, "age at which an SVID is replaced; half its life if not given")
	flags.DurationVar(&config.Root, "root-life", 24*time.Hour, "how long a root and an intermediate are valid")
	flags.BoolVar(&config.RSA, "rsa-ca", false, "RSA keys for the root and an intermediate")
	flags.BoolVar(&config.RSASvid, "rsa-svid", false, "RSA keys for SVIDs, with which nobody can sign a token")
	flags.BoolVar(&config.Intermediate, "intermediate", false, "an intermediate of this server between root and SVID")
	flags.DurationVar(&config.CutStreams, "cut-streams", 0, "how long a stream lives; 0 is for ever")
	flags.DurationVar(&config.RotateRoot, "rotate-root", 0, "how often the root is replaced, for one server of the domain")
	flags.Func("hint", "one more SVID for every workload, with this hint; repeatable", func(hint string) error {
		config.Hints = append(config.Hints, hint)
		return nil
	})
	flags.Func("federate", "DOMAIN=FILE, the "+BundleFile+" of another domain's folder; repeatable", func(value string) error {
		name, file, _ := strings.Cut(value, "=")
		other, err := spiffeid.TrustDomainFromString(name)
		config.Federated = append(config.Federated, Federated{other, file})
		return err
	})
	if err := flags.Parse(args); err != nil {
		return config, nil, err
	}
	var err error
	if config.Domain, err = spiffeid.TrustDomainFromString(*domain); err != nil {
		return config, nil, fmt.Errorf("--trust-domain %q: %w", *domain, err)
	}
	if config.Rotate == 0 {
		config.Rotate = config.SVID / 2
	}
	if config.Dir == "" {
		return config, nil, errors.New("--dir is missing: the folder of the roots")
	}
	return config, flags.Args(), nil
}

func serveAPI(ctx context.Context, config Config) error {
	if config.Socket == "" || config.Entries == "" {
		return errors.New("--socket and --entries are needed")
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := os.Remove(config.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	api, err := newServer(config)
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", config.Socket)
	if err != nil {
		return err
	}
	// Workloads of every user may ask; who they are decides what they get.
	if err := os.Chmod(config.Socket, 0o666); err != nil {
		return err
	}
	go api.watch(ctx)
	if config.RotateRoot > 0 {
		go api.replaceRoots(ctx)
	}
	serving := grpc.NewServer(grpc.Creds(attest{}))
	workload.RegisterSpiffeWorkloadAPIServer(serving, api)
	context.AfterFunc(ctx, serving.Stop)
	slog.Info("Startup completed", "domain", config.Domain.String(), "socket", config.Socket)
	return serving.Serve(listener)
}

// replaceRoots gives each step a third of the time between two roots: the new one is known before
// it signs, the old one is known until nothing signed by it is used.
func (s *server) replaceRoots(ctx context.Context) {
	roots := s.authority.roots
	steps := []struct {
		name string
		step func() error
	}{{"prepare", roots.prepare}, {"activate", roots.activate}, {"prune", roots.prune}}
	for at := 0; ; at = (at + 1) % len(steps) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.config.RotateRoot / time.Duration(len(steps))):
		}
		if err := steps[at].step(); err != nil {
			slog.Error("root not replaced", "step", steps[at].name, "error", err)
			continue
		}
		slog.Info("root", "step", steps[at].name)
	}
}
