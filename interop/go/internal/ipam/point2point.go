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

// Point2Point gives a connection one pair from a group of prefixes, and routes to each end. Who
// comes with addresses keeps them if they are free.
type Point2Point struct{ pools []*pool }

// New makes one element for each group.
func New(groups [][]netip.Prefix) []chain.Element {
	var all []chain.Element
	for _, group := range groups {
		element := &Point2Point{}
		for _, prefix := range group {
			element.pools = append(element.pools, newPool(prefix))
		}
		all = append(all, element)
	}
	return all
}

// lease is the pair of one connection.
type lease struct {
	pool     *pool
	src, dst netip.Addr
}

func (l *lease) end() {
	if l.pool != nil {
		l.pool.free(l.src, l.dst)
	}
	*l = lease{}
}

// Request takes a pair, or keeps the one that the connection has.
func (p *Point2Point) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	ip := ipContextOf(request.Connection)
	excluded := prefixes(ip.GetExcludedPrefixes())
	held := chain.State[lease](ctx, p)
	if held.pool != nil && held.hit(excluded) {
		held.remove(ip)
		held.end()
	}
	kept := held.pool != nil
	if !kept {
		taken, err := p.take(ip, excluded)
		if err != nil {
			return nil, err
		}
		*held = taken
	}
	held.add(ip)
	conn, err := next.Request(ctx, request)
	if err != nil && !kept {
		held.end()
	}
	return conn, err
}

// Close gives the pair back.
func (p *Point2Point) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	chain.State[lease](ctx, p).end()
	return next.Close(ctx, conn)
}

func (p *Point2Point) take(ip *connectioncontext.IPContext, excluded []netip.Prefix) (lease, error) {
	for _, pool := range p.pools {
		src := firstFree(pool, ip.GetSrcIpAddrs(), excluded)
		dst := firstFree(pool, ip.GetDstIpAddrs(), excluded)
		if src.IsValid() && dst.IsValid() {
			return lease{pool, src, dst}, nil
		}
		pool.free(src, dst)
	}
	var failed error
	for _, pool := range p.pools {
		dst, src, err := pool.pair(excluded)
		if err == nil {
			return lease{pool, src, dst}, nil
		}
		failed = err
	}
	return lease{}, failed
}

// firstFree takes the first of the addresses that the pool has.
func firstFree(from *pool, texts []string, excluded []netip.Prefix) netip.Addr {
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err == nil && from.take(prefix.Addr(), excluded) {
			return prefix.Addr()
		}
	}
	return netip.Addr{}
}

func (l *lease) hit(excluded []netip.Prefix) bool {
	_, src := excludedBy(l.src, excluded)
	_, dst := excludedBy(l.dst, excluded)
	return src || dst
}

func (l *lease) add(ip *connectioncontext.IPContext) {
	src, dst := host(l.src), host(l.dst)
	ip.SrcIpAddrs = with(ip.SrcIpAddrs, src)
	ip.SrcRoutes = withRoute(ip.SrcRoutes, dst)
	ip.DstIpAddrs = with(ip.DstIpAddrs, dst)
	ip.DstRoutes = withRoute(ip.DstRoutes, src)
}

func (l *lease) remove(ip *connectioncontext.IPContext) {
	src, dst := host(l.src), host(l.dst)
	is := func(text string) func(string) bool { return func(other string) bool { return other == text } }
	to := func(text string) func(*connectioncontext.Route) bool {
		return func(route *connectioncontext.Route) bool { return route.GetPrefix() == text }
	}
	ip.SrcIpAddrs = slices.DeleteFunc(ip.SrcIpAddrs, is(src))
	ip.SrcRoutes = slices.DeleteFunc(ip.SrcRoutes, to(dst))
	ip.DstIpAddrs = slices.DeleteFunc(ip.DstIpAddrs, is(dst))
	ip.DstRoutes = slices.DeleteFunc(ip.DstRoutes, to(src))
}

// host is an address as a prefix of its own.
func host(address netip.Addr) string {
	return netip.PrefixFrom(address, address.BitLen()).String()
}

func with(list []string, item string) []string {
	if slices.Contains(list, item) {
		return list
	}
	return append(list, item)
}

func withRoute(list []*connectioncontext.Route, prefix string) []*connectioncontext.Route {
	for _, route := range list {
		if route.GetPrefix() == prefix {
			return list
		}
	}
	return append(list, &connectioncontext.Route{Prefix: prefix})
}

func ipContextOf(conn *connection.Connection) *connectioncontext.IPContext {
	if conn.Context == nil {
		conn.Context = &connectioncontext.ConnectionContext{}
	}
	if conn.Context.IpContext == nil {
		conn.Context.IpContext = &connectioncontext.IPContext{}
	}
	return conn.Context.IpContext
}

// prefixes reads what can be read: an address is a prefix of its own.
func prefixes(texts []string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			all = append(all, prefix)
		} else if address, err := netip.ParseAddr(text); err == nil {
			all = append(all, netip.PrefixFrom(address, address.BitLen()))
		}
	}
	return all
}
