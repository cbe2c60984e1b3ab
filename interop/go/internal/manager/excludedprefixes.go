package manager

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/connectioncontext"
	"interop/internal/gen/networkservice"
)

// excludedFile is where the Go implementation's manager finds prefixes that no endpoint may use.
const excludedFile = "/var/lib/networkservicemesh/config/excluded_prefixes.yaml"

// ExcludedPrefixes asks for addresses outside of some prefixes. The request has an IP context
// then, if there are prefixes or not.
type ExcludedPrefixes struct{}

// Request adds what the file says; where there is none, nothing is excluded.
func (ExcludedPrefixes) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	conn := request.GetConnection()
	if conn.Context == nil {
		conn.Context = &connectioncontext.ConnectionContext{}
	}
	if conn.Context.IpContext == nil {
		conn.Context.IpContext = &connectioncontext.IPContext{}
	}
	ip := conn.Context.IpContext
	for _, prefix := range excluded() {
		if !slices.Contains(ip.ExcludedPrefixes, prefix) {
			ip.ExcludedPrefixes = append(ip.ExcludedPrefixes, prefix)
		}
	}
	return next.Request(ctx, request)
}

// Close hands on.
func (ExcludedPrefixes) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	return next.Close(ctx, conn)
}

func excluded() []string {
	text, err := os.ReadFile(excludedFile)
	if err != nil {
		return nil
	}
	var lists map[string][]string
	if err := yaml.Unmarshal(text, &lists); err != nil {
		slog.Warn("excluded prefixes", "file", excludedFile, "err", err)
		return nil
	}
	for key, list := range lists {
		// In the field the key is written either way.
		if strings.EqualFold(key, "prefixes") {
			return list
		}
	}
	return nil
}
