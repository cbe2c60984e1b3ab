package ipam

import (
	"context"
	"net/netip"
	"slices"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/connectioncontext"
	"interop/internal/gen/networkservice"
)

// NewStrict is [New] for an endpoint that does not take addresses from others: what a connection
// brings that is not free here is struck out first.
func NewStrict(groups [][]netip.Prefix) []chain.Element {
	var all []chain.Element
	for at, element := range New(groups) {
		strict := &Strict{}
		for _, prefix := range groups[at] {
			strict.pools = append(strict.pools, newPool(prefix))
		}
		all = append(all, chain.Join(strict, element))
	}
	return all
}

// Strict strikes out addresses of others, and remembers those that are in use.
type Strict struct{ pools []*pool }

// Request strikes out before, and remembers behind.
func (s *Strict) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	ip := ipContextOf(request.Connection)
	ip.SrcIpAddrs, ip.DstRoutes = s.strike(ip.SrcIpAddrs, ip.DstRoutes)
	ip.DstIpAddrs, ip.SrcRoutes = s.strike(ip.DstIpAddrs, ip.SrcRoutes)
	conn, err := next.Request(ctx, request)
	if err != nil {
		return nil, err
	}
	for _, address := range addresses(conn) {
		for _, pool := range s.pools {
			pool.take(address, nil)
		}
	}
	return conn, nil
}

// Close frees what the connection used.
func (s *Strict) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	for _, address := range addresses(conn) {
		for _, pool := range s.pools {
			pool.free(address)
		}
	}
	return next.Close(ctx, conn)
}

// strike leaves the addresses that are free here, and of the routes those that do not lead to one
// that is not.
func (s *Strict) strike(texts []string, routes []*connectioncontext.Route) ([]string, []*connectioncontext.Route) {
	var left []string
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err == nil && s.has(prefix.Addr()) {
			left = append(left, text)
			continue
		}
		routes = slices.DeleteFunc(routes, func(route *connectioncontext.Route) bool { return route.GetPrefix() == text })
	}
	return left, routes
}

func (s *Strict) has(address netip.Addr) bool {
	return slices.ContainsFunc(s.pools, func(pool *pool) bool { return pool.isFree(address) })
}

func addresses(conn *connection.Connection) []netip.Addr {
	ip := conn.GetContext().GetIpContext()
	var all []netip.Addr
	for _, prefix := range prefixes(slices.Concat(ip.GetSrcIpAddrs(), ip.GetDstIpAddrs())) {
		all = append(all, prefix.Addr())
	}
	return all
}
