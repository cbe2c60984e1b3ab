package forwarder

import (
	"context"
	"net"
	"strconv"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/connectioncontext"
	"interop/internal/gen/networkservice"
	"interop/internal/mechanism"
)

// What VXLAN adds to each packet, in bytes, by the family of the tunnel's addresses: Ethernet,
// IP, UDP and its own header, and 4 more, as the Go implementation counts.
const (
	vxlanOverhead4 = 54
	vxlanOverhead6 = 74
)

// defaultMTU is what a link carries about which nothing is known.
const defaultMTU = 1500

// tunnel is the node's end of all tunnels.
type tunnel struct {
	address net.IP
	port    int
	mtu     int
	vnis    mechanism.VNIs
}

func newTunnel(address net.IP, port int) *tunnel {
	overhead := vxlanOverhead4
	if address.To4() == nil {
		overhead = vxlanOverhead6
	}
	return &tunnel{address: address, port: port, mtu: linkMTU(address) - overhead}
}

// linkMTU is that of the interface with this address.
func linkMTU(address net.IP) int {
	links, err := net.Interfaces()
	if err != nil {
		return defaultMTU
	}
	for _, link := range links {
		addresses, err := link.Addrs()
		if err != nil {
			continue
		}
		for _, other := range addresses {
			if network, ok := other.(*net.IPNet); ok && network.IP.Equal(address) {
				return link.MTU
			}
		}
	}
	return defaultMTU
}

// offer is the preference for VXLAN: only Ethernet goes over it.
func (t *tunnel) offer() *Offer {
	return &Offer{Make: func(conn *connection.Connection) *connection.Mechanism {
		if conn.GetPayload() != mechanism.PayloadEthernet {
			return nil
		}
		return &connection.Mechanism{Cls: mechanism.Remote, Type: mechanism.VXLAN, Parameters: map[string]string{
			mechanism.SrcIP:   t.address.String(),
			mechanism.SrcPort: strconv.Itoa(t.port),
			mechanism.MTU:     strconv.Itoa(t.mtu),
		}}
	}}
}

// VXLANServer chooses what the endpoint's side of a tunnel chooses: its address, port, and the
// network's identifier.
type VXLANServer struct{ tunnel *tunnel }

// identifier is what was chosen for a connection.
type identifier struct{ vni uint32 }

// Request chooses, or keeps what was chosen.
func (v *VXLANServer) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	chosen := request.Connection.GetMechanism()
	if chosen.Parameters == nil {
		chosen.Parameters = map[string]string{}
	}
	parameters := chosen.Parameters
	parameters[mechanism.DstIP] = v.tunnel.address.String()
	parameters[mechanism.DstPort] = strconv.Itoa(v.tunnel.port)
	state := chain.State[identifier](ctx, v)
	kept := state.vni != 0
	if parameters[mechanism.VNI] == "" {
		if !kept {
			vni, err := v.tunnel.vnis.Take(chosen)
			if err != nil {
				return nil, err
			}
			state.vni = vni
		}
		parameters[mechanism.VNI] = strconv.FormatUint(uint64(state.vni), 10)
	}
	v.lowerMTU(request.Connection, parameters)
	conn, err := next.Request(ctx, request)
	if err != nil && !kept {
		v.tunnel.vnis.Release(chosen)
		state.vni = 0
	}
	return conn, err
}

// lowerMTU makes tunnel and connection no larger than what fits.
func (v *VXLANServer) lowerMTU(conn *connection.Connection, parameters map[string]string) {
	theirs, err := strconv.Atoi(parameters[mechanism.MTU])
	if err != nil || theirs == 0 || theirs > v.tunnel.mtu {
		theirs = v.tunnel.mtu
	}
	parameters[mechanism.MTU] = strconv.Itoa(theirs)
	if conn.Context == nil {
		conn.Context = &connectioncontext.ConnectionContext{}
	}
	if conn.Context.MTU == 0 || conn.Context.MTU > uint32(theirs) {
		conn.Context.MTU = uint32(theirs)
	}
}

// Close gives the identifier back.
func (v *VXLANServer) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	err := next.Close(ctx, conn)
	v.tunnel.vnis.Release(conn.GetMechanism())
	chain.State[identifier](ctx, v).vni = 0
	return err
}
