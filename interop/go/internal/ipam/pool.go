// Package ipam hands out addresses to an endpoint's connections, two for each: one for its end,
// one for the client's.
package ipam

import (
	"fmt"
	"net/netip"
	"sync"
)

// pool is the addresses of one prefix.
type pool struct {
	mutex  sync.Mutex
	prefix netip.Prefix
	taken  map[netip.Addr]bool
}

func newPool(prefix netip.Prefix) *pool {
	return &pool{prefix: prefix.Masked(), taken: map[netip.Addr]bool{}}
}

// pair takes the two lowest free addresses, the network's own included.
func (p *pool) pair(excluded []netip.Prefix) (first, second netip.Addr, err error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	first = p.lowest(p.prefix.Addr(), excluded)
	if first.IsValid() {
		second = p.lowest(first.Next(), excluded)
	}
	if !second.IsValid() {
		return first, second, fmt.Errorf("ipam: no two addresses of %s are free", p.prefix)
	}
	p.taken[first], p.taken[second] = true, true
	return first, second, nil
}

// lowest is the first free address from here; not valid if there is none. An excluded prefix is
// passed over in one step.
func (p *pool) lowest(from netip.Addr, excluded []netip.Prefix) netip.Addr {
	for at := from; at.IsValid() && p.prefix.Contains(at); {
		if over, hit := excludedBy(at, excluded); hit {
			at = last(over).Next()
			continue
		}
		if !p.taken[at] {
			return at
		}
		at = at.Next()
	}
	return netip.Addr{}
}

// take takes one address if it is of this pool, free and not excluded.
func (p *pool) take(address netip.Addr, excluded []netip.Prefix) bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if _, hit := excludedBy(address, excluded); hit || !p.prefix.Contains(address) || p.taken[address] {
		return false
	}
	p.taken[address] = true
	return true
}

func (p *pool) isFree(address netip.Addr) bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.prefix.Contains(address) && !p.taken[address]
}

func (p *pool) free(addresses ...netip.Addr) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for _, address := range addresses {
		delete(p.taken, address)
	}
}

func excludedBy(address netip.Addr, excluded []netip.Prefix) (netip.Prefix, bool) {
	for _, prefix := range excluded {
		if prefix.Contains(address) {
			return prefix, true
		}
	}
	return netip.Prefix{}, false
}

// last is a prefix's highest address.
func last(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Masked().Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	address, _ := netip.AddrFromSlice(bytes)
	return address
}
