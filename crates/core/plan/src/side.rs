//! The two sides of a forwarder's connection.

use std::net::IpAddr;

use ipnet::IpNet;
use nsm_model::ifname::IfName;
use nsm_model::mechanism::{Mtu, Vni};

use crate::NetnsId;

/// One side of a connection as this forwarder sees it. A new mechanism is a new variant and its
/// rows in the table of joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// A kernel interface in a workload's namespace.
    Kernel(KernelSide),
    /// A VXLAN tunnel to the forwarder of another node.
    Vxlan(VxlanSide),
}

/// What a workload shall find in its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSide {
    /// The workload's namespace.
    pub netns: NetnsId,
    /// Name of the interface in it.
    pub name: IfName,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its addresses with their prefix lengths.
    pub addrs: Vec<IpNet>,
    /// Destinations through this interface, with the next hop's address if there is one.
    pub routes: Vec<(IpNet, Option<IpAddr>)>,
    /// Permanent neighbours: address and hardware address.
    pub neighbours: Vec<(IpAddr, [u8; 6])>,
    /// MTU of the interface in bytes.
    pub mtu: Mtu,
    /// True for a port of a bridging (passthrough) endpoint: up, without addresses, routes or
    /// neighbours.
    pub bare: bool,
}

/// Where a VXLAN tunnel (RFC 7348) starts and ends; the underlay is in the node's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanSide {
    /// Our outer address.
    pub local: IpAddr,
    /// The peer's outer address, of the same family.
    pub remote: IpAddr,
    /// UDP port at both ends.
    pub port: u16,
    /// The VXLAN network identifier: unique per node and port.
    pub vni: Vni,
}

impl Side {
    /// The mechanism's name, for messages.
    #[must_use]
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::Kernel(_) => "KERNEL",
            Self::Vxlan(_) => "VXLAN",
        }
    }
}
