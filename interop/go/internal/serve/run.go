package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"
)

// Ready is the line that whoever started a role waits for.
const Ready = "Startup completed"

// Run starts, says that the role is ready, and returns when it has ended.
func (s *Server) Run(ctx context.Context, on ...*url.URL) error {
	begun := time.Now()
	ended, err := s.Start(ctx, on...)
	if err != nil {
		return err
	}
	slog.Info(Ready, "after", time.Since(begun), "on", fmt.Sprint(on))
	return <-ended
}

// URLs reads where a role listens: `unix:///a/b` or `tcp://host:port`.
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
	best := firstAddress()
	if best == nil {
		return public
	}
	return &url.URL{Scheme: "tcp", Host: net.JoinHostPort(best.String(), public.Port())}
}

func firstAddress() net.IP {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var best net.IP
	for _, address := range addresses {
		network, ok := address.(*net.IPNet)
		if !ok || network.IP.IsLoopback() {
			continue
		}
		if network.IP.To4() != nil {
			return network.IP
		}
		if best == nil && network.IP.IsGlobalUnicast() {
			best = network.IP
		}
	}
	return best
}
