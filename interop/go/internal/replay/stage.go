// Package replay plays the other sides of a recording to a program that takes the recorded one's
// place, and compares what it says with what was recorded.
package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"

	"interop/internal/recording"
	"interop/internal/workloadapi"
)

// stopTimeout is how long the program may take to end when it is asked to.
const stopTimeout = 5 * time.Second

// stage is the program, and the peers that are played to it.
type stage struct {
	recording *recording.Recording
	dir       string
	issuer    *workloadapi.Issuer
	names     *names
	lookups   *lookups
	heard     *ear
	peers     map[string]*peer
	// local and remote are where the program listens.
	local, remote *url.URL
	program       *exec.Cmd
	ended         chan error
}

// newStage makes identities, has the peers listen, and starts the program.
func newStage(ctx context.Context, script *recording.Recording, dir string, command []string) (*stage, error) {
	own, err := spiffeid.FromString(script.Header.ID)
	if err != nil {
		return nil, fmt.Errorf("the recorded program's id: %w", err)
	}
	s := &stage{recording: script, dir: dir, lookups: newLookups(), heard: newEar(script.Events), peers: map[string]*peer{}}
	s.names = newNames(s.mint)
	lives := workloadapi.Lives{SVID: time.Hour, Rotate: time.Hour, Root: 24 * time.Hour}
	if s.issuer, err = workloadapi.NewIssuer(dir, own.TrustDomain(), lives); err != nil {
		return nil, err
	}
	if err := s.identify(ctx, own, lives); err != nil {
		return nil, err
	}
	if s.remote, err = freeTCP(); err != nil {
		return nil, err
	}
	s.local = &url.URL{Scheme: "unix", Path: filepath.Join(dir, "role.sock")}
	if script.Header.URL != "" {
		s.names.urls = append(s.names.urls, [2]string{script.Header.URL, s.remote.String()})
	}
	for number, id := range slices.Sorted(maps.Keys(script.Header.Peers)) {
		if err := s.seat(ctx, number, id); err != nil {
			return nil, fmt.Errorf("peer %s: %w", id, err)
		}
	}
	return s, s.start(command)
}

// identify has a Workload API that gives whoever asks the recorded program's identity.
func (s *stage) identify(ctx context.Context, own spiffeid.ID, lives workloadapi.Lives) error {
	config := workloadapi.Config{
		Lives: lives, Domain: own.TrustDomain(), Dir: s.dir,
		Socket:  filepath.Join(s.dir, "identity.sock"),
		Entries: filepath.Join(s.dir, "entries.yaml"),
	}
	text := fmt.Sprintf("entries:\n  - id: %s\n    selectors: { uid: %d }\n", own, os.Getuid())
	if err := os.WriteFile(config.Entries, []byte(text), 0o600); err != nil {
		return err
	}
	go func() { _ = workloadapi.Serve(ctx, config) }()
	return nil
}

func (s *stage) seat(ctx context.Context, number int, id string) error {
	peer, err := s.identity(id)
	if err != nil {
		return err
	}
	s.peers[id] = peer
	if err := peer.listen(ctx, s.dir, number, s.handler(peer)); err != nil {
		return err
	}
	if at := s.recording.Header.Peers[id]; at != "" {
		s.names.urls = append(s.names.urls, [2]string{at, peer.tcp.String()})
	}
	to := s.local
	if slices.Contains(s.recording.Header.Remote, id) || s.recording.Header.Role == "registry" {
		to = s.remote
	}
	return peer.connect(to)
}

func (s *stage) identity(id string) (*peer, error) {
	parsed, err := spiffeid.FromString(id)
	if err != nil {
		return nil, err
	}
	source, err := s.issuer.Source(parsed)
	if err != nil {
		return nil, err
	}
	lives := life
	if text := s.recording.Header.Env["NSM_MAX_TOKEN_LIFETIME"]; text != "" {
		if lives, err = time.ParseDuration(text); err != nil {
			return nil, err
		}
	}
	return newPeer(id, source, lives), nil
}

// mint makes a token of anybody but the program, whose key it has itself.
func (s *stage) mint(from, to string) (string, error) {
	if from == s.recording.Header.ID {
		return "", errors.New("the program has not made this one yet")
	}
	known := s.peers[from]
	if known == nil {
		var err error
		if known, err = s.identity(from); err != nil {
			return "", err
		}
		s.peers[from] = known
	}
	return known.token(to)
}

// handler is what a peer's server does with each call.
func (s *stage) handler(peer *peer) grpc.StreamHandler {
	return func(_ any, stream grpc.ServerStream) error {
		path, _ := grpc.MethodFromServerStream(stream)
		if handled, err := s.lookups.answer(path, stream); handled {
			return err
		}
		return s.heard.hear(peer, path, stream)
	}
}

// start starts the program with the settings that fit the stage.
func (s *stage) start(command []string) error {
	env := map[string]string{
		"PATH":                   os.Getenv("PATH"),
		"SPIFFE_ENDPOINT_SOCKET": "unix://" + filepath.Join(s.dir, "identity.sock"),
		"NSM_NAME":               s.recording.Header.Name,
		"NSM_STATE_DIR":          s.dir,
		"NSM_STORE":              filepath.Join(s.dir, "store"),
		"NSM_LISTEN_ON":          s.local.String(),
	}
	switch s.recording.Header.Role {
	case "registry":
		env["NSM_LISTEN_ON"] = s.remote.String()
	case "manager":
		env["NSM_LISTEN_ON"] = s.local.String() + "," + s.remote.String()
		if registry := s.called("/registry."); registry != nil {
			env["NSM_REGISTRY_URL"] = registry.tcp.String()
		}
	default:
		if manager := s.called("/"); manager != nil {
			env["NSM_CONNECT_TO"] = "unix://" + manager.socket
		}
	}
	maps.Copy(env, s.recording.Header.Env)
	log, err := os.Create(filepath.Join(s.dir, "program.log"))
	if err != nil {
		return err
	}
	s.program = exec.Command(command[0], command[1:]...)
	s.program.Stdout, s.program.Stderr = log, log
	for name, value := range env {
		s.program.Env = append(s.program.Env, name+"="+value)
	}
	if err := s.program.Start(); err != nil {
		return err
	}
	s.ended = make(chan error, 1)
	go func() { s.ended <- s.program.Wait(); _ = log.Close() }()
	return nil
}

// called is the first peer that the recorded program called.
func (s *stage) called(prefix string) *peer {
	for _, event := range s.recording.Events {
		if event.Direction == "out" && event.Peer != "" && strings.HasPrefix(event.Method, prefix) {
			return s.peers[event.Peer]
		}
	}
	return nil
}

// stop ends the program, by force if it does not want to.
func (s *stage) stop() {
	_ = s.program.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(stopTimeout):
		_ = s.program.Process.Kill()
		<-s.ended
	}
}
