package client

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/connectioncontext"
	"interop/internal/gen/networkservice"
)

// ExcludedPrefixes asks for no address that another connection of this client has, and does not
// take one.
type ExcludedPrefixes struct {
	mutex sync.Mutex
	used  []string
}

// Request adds what is in use to the request, and what was answered to what is in use.
func (e *ExcludedPrefixes) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	asked := proto.CloneOf(request)
	if asked.Connection.Context == nil {
		asked.Connection.Context = &connectioncontext.ConnectionContext{}
	}
	if asked.Connection.Context.IpContext == nil {
		asked.Connection.Context.IpContext = &connectioncontext.IPContext{}
	}
	ip := asked.Connection.Context.IpContext
	if excluded := e.others(ip); excluded != nil {
		ip.ExcludedPrefixes = excluded
	}
	conn, err := next.Request(ctx, asked)
	if err != nil {
		return nil, err
	}
	answered := conn.GetContext().GetIpContext()
	if err := overlap(answered, ip.GetExcludedPrefixes()); err != nil {
		after, cancel := chain.Postpone(ctx)
		defer cancel()
		if closed := next.Close(after, conn); closed != nil {
			err = fmt.Errorf("%w (and the close failed: %w)", err, closed)
		}
		return nil, err
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.used = unique(slices.Concat(e.used, hosts(answered), answered.GetExcludedPrefixes()))
	return conn, nil
}

// others is what is in use, and what the request excludes already, without its own addresses;
// nil while nothing is in use.
func (e *ExcludedPrefixes) others(ip *connectioncontext.IPContext) []string {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if len(e.used) == 0 {
		return nil
	}
	own := slices.Concat(ip.GetSrcIpAddrs(), ip.GetDstIpAddrs())
	return without(unique(slices.Concat(ip.GetExcludedPrefixes(), e.used)), own)
}

// Close frees what the connection used.
func (e *ExcludedPrefixes) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	ip := conn.GetContext().GetIpContext()
	e.mutex.Lock()
	e.used = without(e.used, slices.Concat(hosts(ip), ip.GetExcludedPrefixes()))
	e.mutex.Unlock()
	return next.Close(ctx, conn)
}

// hosts is a connection's addresses, and the single ones that its routes lead to.
func hosts(ip *connectioncontext.IPContext) []string {
	all := slices.Concat(ip.GetSrcIpAddrs(), ip.GetDstIpAddrs())
	for _, route := range slices.Concat(ip.GetSrcRoutes(), ip.GetDstRoutes()) {
		if prefix, err := netip.ParsePrefix(route.GetPrefix()); err == nil && prefix.IsSingleIP() {
			all = append(all, route.GetPrefix())
		}
	}
	return all
}

// overlap is an error if an address was given that is excluded as such.
func overlap(ip *connectioncontext.IPContext, excluded []string) error {
	for _, text := range slices.Concat(ip.GetSrcIpAddrs(), ip.GetDstIpAddrs()) {
		given, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("excludedprefixes: %w", err)
		}
		for _, text := range excluded {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("excludedprefixes: %w", err)
			}
			if prefix.IsSingleIP() && prefix.Contains(given.Addr()) {
				return fmt.Errorf("IP %s is excluded, but it was found in response IPs", given.Addr())
			}
		}
	}
	return nil
}

func unique(texts []string) []string {
	var all []string
	for _, text := range texts {
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}

func without(texts, others []string) []string {
	return slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return slices.Contains(others, text) })
}
