package endpoint

import (
	"context"

	"google.golang.org/protobuf/proto"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/connectioncontext"
	"interop/internal/gen/networkservice"
)

// DNSContext adds the endpoint's DNS settings to a connection, each once.
type DNSContext struct {
	Configs []*connectioncontext.DNSConfig
}

// Request adds them.
func (d *DNSContext) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	conn := request.Connection
	if conn.Context == nil {
		conn.Context = &connectioncontext.ConnectionContext{}
	}
	if conn.Context.DnsContext == nil {
		conn.Context.DnsContext = &connectioncontext.DNSContext{}
	}
	dns := conn.Context.DnsContext
	for _, config := range d.Configs {
		if !contains(dns.Configs, config) {
			dns.Configs = append(dns.Configs, proto.CloneOf(config))
		}
	}
	return next.Request(ctx, request)
}

// Close hands on.
func (d *DNSContext) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	return next.Close(ctx, conn)
}

func contains(list []*connectioncontext.DNSConfig, config *connectioncontext.DNSConfig) bool {
	for _, other := range list {
		if sameSet(other.GetDnsServerIps(), config.GetDnsServerIps()) && sameSet(other.GetSearchDomains(), config.GetSearchDomains()) {
			return true
		}
	}
	return false
}

func sameSet(a, b []string) bool {
	in := map[string]int{}
	for _, item := range a {
		in[item] |= 1
	}
	for _, item := range b {
		in[item] |= 2
	}
	for _, sides := range in {
		if sides != 3 {
			return false
		}
	}
	return true
}
