// Package listen serves gRPC on a role's URLs, with the health service beside.
package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// ready is the line that whoever started the role waits for.
const ready = "Startup completed"

// URLs reads the URLs that a role listens on: `unix:///a/b` or `tcp://host:port`.
func URLs(texts []string) ([]*url.URL, error) {
	var all []*url.URL
	for _, text := range texts {
		to, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		if to.Scheme != "unix" && to.Scheme != "tcp" {
			return nil, fmt.Errorf("listen on %q: want unix:// or tcp://", text)
		}
		all = append(all, to)
	}
	if len(all) == 0 {
		return nil, errors.New("no URL to listen on")
	}
	return all, nil
}

// Serve says that every service of the server is there, listens on the URLs, logs that it is
// ready, and serves until the context ends.
func Serve(ctx context.Context, server *grpc.Server, on ...*url.URL) error {
	begun := time.Now()
	states := health.NewServer()
	for name := range server.GetServiceInfo() {
		states.SetServingStatus(name, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	grpc_health_v1.RegisterHealthServer(server, states)
	var listeners []net.Listener
	for _, to := range on {
		listener, err := open(to)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", to, err)
		}
		listeners = append(listeners, listener)
	}
	defer context.AfterFunc(ctx, server.Stop)()
	ended := make(chan error, len(listeners))
	for _, listener := range listeners {
		go func() { ended <- server.Serve(listener) }()
	}
	slog.Info(ready, "after", time.Since(begun), "on", fmt.Sprint(on))
	for range listeners {
		if err := <-ended; err != nil {
			server.Stop()
			return err
		}
	}
	return nil
}

func open(to *url.URL) (net.Listener, error) {
	if to.Scheme == "tcp" {
		return net.Listen("tcp", to.Host)
	}
	if err := os.MkdirAll(filepath.Dir(to.Path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(to.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", to.Path)
	if err != nil {
		return nil, err
	}
	// Workloads of every user connect; TLS says who they are.
	return listener, os.Chmod(to.Path, 0o777)
}

// Public is the URL by which others reach a role: its first TCP one, and if that has no host the
// first address of this machine, IPv4 before IPv6.
func Public(on []*url.URL) *url.URL {
	public := on[0]
	for _, to := range on {
		if to.Scheme == "tcp" {
			public = to
			break
		}
	}
	if public.Port() == "" || !strings.HasPrefix(public.Host, ":") {
		return public
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return public
	}
	var best net.IP
	for _, address := range addresses {
		network, ok := address.(*net.IPNet)
		if !ok || network.IP.IsLoopback() {
			continue
		}
		if network.IP.To4() != nil {
			best = network.IP
			break
		}
		if best == nil && network.IP.IsGlobalUnicast() {
			best = network.IP
		}
	}
	if best == nil {
		return public
	}
	return &url.URL{Scheme: "tcp", Host: net.JoinHostPort(best.String(), public.Port())}
}
