//! The network between the nodes: one bridge in the lab's own namespace, a veth pair to each node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::cell::Cell;
use crate::error::LabError;
use crate::netlink::Netlink;

/// Host number of the bridge itself, for what runs in the lab's own namespace.
const BRIDGE_HOST: u8 = 254;
/// Prefix lengths of the underlay.
const PREFIX_V4: u8 = 24;
const PREFIX_V6: u8 = 64;
/// Name of a node's interface on the underlay, as seen in the node.
pub(crate) const INTERFACE: &str = "eth0";

/// Digits of the lab's name in that of its bridge (several labs of one process share its
/// namespace): with a dot and a host number it stays within the 15 bytes of an interface name.
const DIGITS: usize = 8;

/// A node's addresses on the underlay: 10.255.0.N/24 and fd00:255::N/64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Ipv6Addr,
}

impl Addresses {
    fn of(host: u8) -> Self {
        Self {
            v4: Ipv4Addr::new(10, 255, 0, host),
            v6: Ipv6Addr::new(0xfd00, 0x255, 0, 0, 0, 0, 0, host.into()),
        }
    }

    fn each(self) -> [(IpAddr, u8); 2] {
        [(self.v4.into(), PREFIX_V4), (self.v6.into(), PREFIX_V6)]
    }
}

#[derive(Debug)]
pub(crate) struct Underlay {
    name: String,
    index: u32,
    mtu: u32,
    hosts: AtomicU8,
}

impl Underlay {
    pub(crate) fn new(lab: &str, mtu: u32) -> Result<Self, LabError> {
        let name = format!("ul{}", &lab[..DIGITS.min(lab.len())]);
        let failed = |e| LabError::system(format!("create bridge {name} with MTU {mtu}"), e);
        enable_ipv6();
        let netlink = Netlink::open().map_err(failed)?;
        let index = netlink.add_bridge(&name, mtu).map_err(failed)?;
        let underlay = Self {
            name,
            index,
            mtu,
            hosts: AtomicU8::new(0),
        };
        for (address, prefix) in underlay.bridge_addresses().each() {
            let failed =
                |e| LabError::system(format!("add address {address} to {}", underlay.name), e);
            netlink
                .add_address(index, address, prefix)
                .map_err(failed)?;
        }
        Ok(underlay)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn bridge_addresses(&self) -> Addresses {
        Addresses::of(BRIDGE_HOST)
    }

    /// Connects a cell: both ends of the pair are born in place.
    pub(crate) fn connect(&self, cell: &Cell) -> Result<Addresses, LabError> {
        let taken = self
            .hosts
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| {
                (n + 1 < BRIDGE_HOST).then_some(n + 1)
            });
        let host = taken.map_err(|_| LabError::Invalid {
            field: "node",
            value: cell.name().to_owned(),
            reason: "the underlay has room for 253 nodes",
        })? + 1;
        let port = format!("{}.{host}", self.name);
        let namespace = cell.open_network()?;
        let failed =
            |e| LabError::system(format!("connect node {} to {}", cell.name(), self.name), e);
        let netlink = Netlink::open().map_err(failed)?;
        netlink
            .add_veth(&port, self.mtu, self.index, INTERFACE, namespace.as_fd())
            .map_err(failed)?;
        drop(namespace);
        let addresses = Addresses::of(host);
        let configured = cell.within(|| {
            let netlink = Netlink::open()?;
            let index = netlink.index(INTERFACE)?;
            netlink.set_up(index)?;
            addresses
                .each()
                .into_iter()
                .try_for_each(|(address, prefix)| netlink.add_address(index, address, prefix))
        })?;
        configured.map_err(failed)?;
        Ok(addresses)
    }

    pub(crate) fn remove(&self) {
        let removed = Netlink::open().and_then(|netlink| netlink.delete(&self.name));
        if let Err(error) = removed
            && error.raw_os_error() != Some(libc::ENODEV)
        {
            tracing::warn!(%error, bridge = self.name, "the underlay's bridge cannot be removed");
        }
    }
}

/// Where a machine starts with IPv6 off, the lab's own namespace gets it; where the kernel has
/// none, the address says so.
fn enable_ipv6() {
    for scope in ["all", "default"] {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "0");
    }
    let loopback = Netlink::open().and_then(|netlink| netlink.set_up(netlink.index("lo")?));
    if let Err(error) = loopback {
        tracing::warn!(%error, "the lab's loopback cannot be brought up");
    }
}
