// Package workloadapi is a SPIFFE Workload API server with SPIRE's habits, for tests: short SVIDs
// that rotate, roots that are replaced, intermediates with RSA keys, several identities with hints,
// federated bundles, streams that break, and PermissionDenied for whoever has no entry.
package workloadapi

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// look is how often files are looked at: faster than a test's patience, and cheap.
const look = 50 * time.Millisecond

// Federated is another trust domain.
type Federated struct {
	// Domain is its name.
	Domain spiffeid.TrustDomain
	// File holds its roots in PEM, as the [BundleFile] of its servers; it may come later.
	File string
}

// server answers the Workload API.
type server struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	config    Config
	authority *authority

	mu        sync.Mutex
	entries   []Entry
	federated map[string][]byte
	// changed is closed, and made anew, when anything that an answer is made of changes.
	changed chan struct{}
	cuts    int
}

func newServer(config Config) (*server, error) {
	roots := roots{dir: config.Dir, domain: config.Domain, rsa: config.RSA, life: config.Root}
	authority, err := newAuthorityOf(roots, config.Lives)
	if err != nil {
		return nil, err
	}
	return &server{config: config, authority: authority, changed: make(chan struct{})}, nil
}

// watch reads files again and again until the context ends.
func (s *server) watch(ctx context.Context) {
	var entries, federated string
	for {
		changed, err := s.authority.reload()
		if err != nil {
			slog.Error("roots stay as they were", "error", err)
		}
		changed = s.readEntries(&entries) || changed
		changed = s.readFederated(&federated) || changed
		if changed {
			s.mu.Lock()
			close(s.changed)
			s.changed = make(chan struct{})
			s.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(look):
		}
	}
}

func (s *server) readEntries(before *string) bool {
	text, err := os.ReadFile(s.config.Entries)
	now := fmt.Sprint(string(text), err)
	if now == *before {
		return false
	}
	*before = now
	var entries []Entry
	if err == nil {
		entries, err = parseEntries(text, s.config.Domain)
	}
	if err != nil {
		slog.Error("entries stay as they were", "file", s.config.Entries, "error", err)
		return false
	}
	s.mu.Lock()
	s.entries = entries
	s.mu.Unlock()
	slog.Info("entries read", "count", len(entries))
	return true
}

func (s *server) readFederated(before *string) bool {
	federated, now := make(map[string][]byte), ""
	for _, other := range s.config.Federated {
		text, err := os.ReadFile(other.File)
		now += fmt.Sprintln(other.Domain, string(text), err)
		for len(text) > 0 {
			block, rest := pem.Decode(text)
			if block == nil {
				break
			}
			text = rest
			key := other.Domain.IDString()
			federated[key] = append(federated[key], block.Bytes...)
		}
	}
	if now == *before {
		return false
	}
	*before = now
	s.mu.Lock()
	s.federated = federated
	s.mu.Unlock()
	return true
}

// identities returns the caller's entries and what the next change will close.
func (s *server) identities(ctx context.Context) (*caller, []Entry, map[string][]byte, <-chan struct{}, error) {
	headers, _ := metadata.FromIncomingContext(ctx)
	if said := headers.Get("workload.spiffe.io"); len(said) != 1 || said[0] != "true" {
		return nil, nil, nil, nil, status.Error(codes.InvalidArgument, "security header missing from request")
	}
	from, _ := peer.FromContext(ctx)
	who, ok := from.AuthInfo.(*caller)
	if !ok {
		return nil, nil, nil, nil, status.Error(codes.Internal, "the caller is unknown")
	}
	if who.why != nil {
		slog.Error("a caller cannot be attested", "error", who.why)
		return nil, nil, nil, nil, status.Error(codes.Internal, "workload attestation failed")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := matching(s.entries, who.facts)
	if len(entries) == 0 {
		slog.Warn("no entry", "pid", who.facts.Pid, "pidns", who.facts.Pidns)
		return who, nil, nil, nil, status.Error(codes.PermissionDenied, "no identity issued")
	}
	for _, hint := range s.config.Hints {
		more, err := entries[0].ID.AppendSegments(hint)
		if err != nil {
			return who, nil, nil, nil, status.Error(codes.Internal, err.Error())
		}
		entries = append(entries, Entry{ID: more, Hint: hint})
	}
	return who, entries, s.federated, s.changed, nil
}

// FetchX509SVID sends the caller's SVIDs, and again whenever one of them or a bundle changes.
func (s *server) FetchX509SVID(_ *workload.X509SVIDRequest, stream workload.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	return serve(stream.Context(), s, stream.Send, func(entries []Entry, federated map[string][]byte) (*workload.X509SVIDResponse, time.Time, error) {
		answer := &workload.X509SVIDResponse{FederatedBundles: federated}
		var soonest time.Time
		for _, entry := range entries {
			svid, due, err := s.authority.svid(entry)
			if err != nil {
				return nil, due, err
			}
			answer.Svids = append(answer.Svids, svid)
			if soonest.IsZero() || due.Before(soonest) {
				soonest = due
			}
		}
		return answer, soonest, nil
	})
}

// FetchX509Bundles sends all bundles, and again whenever one changes.
func (s *server) FetchX509Bundles(_ *workload.X509BundlesRequest, stream workload.SpiffeWorkloadAPI_FetchX509BundlesServer) error {
	return serve(stream.Context(), s, stream.Send, func(_ []Entry, federated map[string][]byte) (*workload.X509BundlesResponse, time.Time, error) {
		bundles := map[string][]byte{s.config.Domain.IDString(): s.authority.bundleNow()}
		for domain, bundle := range federated {
			bundles[domain] = bundle
		}
		return &workload.X509BundlesResponse{Bundles: bundles}, time.Time{}, nil
	})
}

// composer makes an answer, and says when it will be an old one.
type composer[M any] func([]Entry, map[string][]byte) (M, time.Time, error)

// serve sends an answer, and a new one when it changes or is due, until the stream is cut.
func serve[M proto.Message](ctx context.Context, s *server, send func(M) error, compose composer[M]) error {
	var cut <-chan time.Time
	if s.config.CutStreams > 0 {
		cut = time.After(s.config.CutStreams)
	}
	var last proto.Message
	for {
		who, entries, federated, changed, err := s.identities(ctx)
		if err != nil {
			return err
		}
		answer, due, err := compose(entries, federated)
		if err != nil {
			return status.Error(codes.Unavailable, err.Error())
		}
		if last == nil || !proto.Equal(last, answer) {
			if err := send(answer); err != nil {
				return err
			}
			last = answer
			slog.Info("sent", "what", fmt.Sprintf("%T", answer), "to", entries[0].ID, "pid", who.facts.Pid, "identities", len(entries))
		}
		var rotate <-chan time.Time
		if !due.IsZero() {
			rotate = time.After(time.Until(due))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-cut:
			return s.cut(who)
		case <-changed:
		case <-rotate:
		}
	}
}

// cut ends a stream in each of the ways that happen in turn: an agent that stops, one that ends the
// stream without an error, and a connection that is gone.
func (s *server) cut(who *caller) error {
	s.mu.Lock()
	s.cuts++
	way := s.cuts % 3
	s.mu.Unlock()
	slog.Info("cut a stream", "pid", who.facts.Pid, "way", way)
	switch way {
	case 1:
		return status.Error(codes.Unavailable, "the agent is stopping")
	case 2:
		return nil
	default:
		return who.conn.Close()
	}
}
