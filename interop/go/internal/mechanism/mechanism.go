// Package mechanism is the words of mechanisms: types, classes, parameters, the URL by which a
// client asks for one, and the rules by which numbers are chosen.
package mechanism

// Classes: on one node, or between nodes.
const (
	Local  = "LOCAL"
	Remote = "REMOTE"
)

// Types.
const (
	Kernel    = "KERNEL"
	Memif     = "MEMIF"
	Noop      = "NOOP"
	VXLAN     = "VXLAN"
	WireGuard = "WIREGUARD"
	IPSec     = "IPSEC"
	VLAN      = "VLAN"
)

// Parameter keys.
const (
	InodeURL  = "inodeURL"
	Name      = "name"
	SrcIP     = "src_ip"
	DstIP     = "dst_ip"
	SrcPort   = "src_port"
	DstPort   = "dst_port"
	SrcOrigIP = "orig_src_ip"
	DstOrigIP = "orig_dst_ip"
	VNI       = "vni"
	MTU       = "MTU"
)

// Payloads.
const (
	PayloadEthernet = "ETHERNET"
	PayloadIP       = "IP"
)

// OwnNamespace is how a workload names its network namespace: each thread's own, which for a
// process that never changes one is the process's.
const OwnNamespace = "file:///proc/thread-self/ns/net"

// MaxInterfaceName is what Linux allows, in bytes.
const MaxInterfaceName = 15
