//! Keys of mechanism parameters (upstream `api/networkservice/mechanisms/*/constants.go`).

/// Source address of a tunnel.
pub const SRC_IP: &str = "src_ip";
/// Destination address of a tunnel.
pub const DST_IP: &str = "dst_ip";
/// Source port of a tunnel.
pub const SRC_PORT: &str = "src_port";
/// Destination port of a tunnel.
pub const DST_PORT: &str = "dst_port";
/// Source address before a proxy rewrote it.
pub const ORIG_SRC_IP: &str = "orig_src_ip";
/// Destination address before a proxy rewrote it.
pub const ORIG_DST_IP: &str = "orig_dst_ip";
/// Largest payload of a tunnel, in bytes.
pub const MTU: &str = "MTU";

/// Inode of a network namespace (older clients).
pub const NETNS_INODE: &str = "netnsInode";
/// Name of the interface in the workload.
pub const NAME: &str = "name";
/// URL of a network namespace or a socket file.
pub const INODE_URL: &str = "inodeURL";
/// PCI address of a device.
pub const PCI_ADDRESS: &str = "pciAddress";
/// Token of a device from a pool.
pub const TOKEN_ID: &str = "tokenID";

/// KERNEL: whether the client can do VLAN sub-interfaces.
pub const SUPPORTS_VLAN: &str = "supportsVlan";
/// KERNEL: VLAN id of the sub-interface.
pub const VLAN: &str = "vlan";
/// KERNEL: whether `route_localnet` is wanted.
pub const ROUTE_LOCAL_NET: &str = "routeLocalNet";
/// KERNEL: NAT rules.
pub const IPTABLES4_NAT_TEMPLATE: &str = "IPTables4NatTemplate";
/// KERNEL, our own: no addresses and routes on this side, since the interface is a bridge's port.
pub const BARE: &str = "bare";

/// MEMIF: the (abstract) socket's name.
pub const SOCKET_FILE: &str = "socketfile";

/// VFIO: control group of the workload.
pub const CGROUP_DIR: &str = "cgroupDir";
/// VFIO: the device's IOMMU group.
pub const IOMMU_GROUP: &str = "iommuGroup";
/// VFIO: major number of /dev/vfio/vfio.
pub const VFIO_MAJOR: &str = "vfioMajor";
/// VFIO: minor number of /dev/vfio/vfio.
pub const VFIO_MINOR: &str = "vfioMinor";
/// VFIO: major number of the group's device.
pub const DEVICE_MAJOR: &str = "deviceMajor";
/// VFIO: minor number of the group's device.
pub const DEVICE_MINOR: &str = "deviceMinor";

/// VXLAN: the network identifier.
pub const VNI: &str = "vni";

/// WIREGUARD: public key; IPSEC: base64 certificate.
pub const SRC_PUBLIC_KEY: &str = "src_public_key";
/// WIREGUARD: public key; IPSEC: base64 certificate.
pub const DST_PUBLIC_KEY: &str = "dst_public_key";

/// SRV6: host address of the source.
pub const SRC_HOST_IP: &str = "src_host_ip";
/// SRV6: host address of the destination.
pub const DST_HOST_IP: &str = "dst_host_ip";
/// SRV6: binding segment of the source.
pub const SRC_BSID: &str = "src_bsid";
/// SRV6: binding segment of the destination.
pub const DST_BSID: &str = "dst_bsid";
/// SRV6: local segment of the source.
pub const SRC_LOCALSID: &str = "src_localsid";
/// SRV6: local segment of the destination.
pub const DST_LOCALSID: &str = "dst_localsid";
/// SRV6: local segment of the source's host.
pub const SRC_HOST_LOCALSID: &str = "src_host_localsid";
/// SRV6: local segment of the destination's host.
pub const DST_HOST_LOCALSID: &str = "dst_host_localsid";
/// SRV6: hardware address of the source.
pub const SRC_HW_ADDR: &str = "src_hw_addr";
/// SRV6: hardware address of the destination.
pub const DST_HW_ADDR: &str = "dst_hw_addr";

/// VLAN: the 12-bit id.
pub const VLAN_ID: &str = "vlan-id";
