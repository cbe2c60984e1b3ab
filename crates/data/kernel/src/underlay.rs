//! The way that tunnels take between two nodes, made so that it can be asked.
//!
//! One VXLAN device in the node's own namespace, with a number that no connection has: what is sent
//! through it takes the path of every tunnel to that peer, whose kernel answers echoes by itself,
//! also while nobody of ours runs there. Its addresses are link-local, so that no route of the node
//! changes; who is where is written down at both ends, so that nothing is asked of all.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::error::{KernelError, NetnsError};
use crate::executor::Executor;
use crate::messages::{self, Place};
use crate::netlink::{Request, Socket};
use crate::stats::LinkReader;
use crate::{contents, echo, owner};

/// The device's name.
pub const NAME: &str = "nsm-probe";
/// Its number: the last one.
const VNI: u32 = (1 << 24) - 1;
/// Errors of Linux (asm-generic/errno-base.h).
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;

/// A socket for echoes to a peer's end of the device with this index.
///
/// # Errors
/// As [`echo::Echo::open`].
pub fn socket(
    index: u32,
    peer: IpAddr,
    id: u16,
) -> std::io::Result<(std::net::UdpSocket, echo::Echo)> {
    echo::Echo::open(NAME, index, inner(peer).into(), id)
}

impl Executor {
    /// Makes the device where it is not there yet, and writes down where these peers are. Returns
    /// its index.
    ///
    /// # Errors
    /// The kernel refused: no VXLAN, no IPv6, somebody else's device with that number.
    pub fn underlay(
        &self,
        local: IpAddr,
        port: u16,
        peers: Vec<IpAddr>,
    ) -> Result<u32, NetnsError> {
        self.workers().run(move |_| {
            let mut socket = Socket::open()?;
            let index = match index()? {
                Some(index) => index,
                None => create(&mut socket, local, port)?,
            };
            let entries = peers.iter().flat_map(|peer| entries(index, *peer));
            socket.execute(&entries.collect::<Vec<_>>())?;
            Ok(index)
        })?
    }

    /// Takes the device away, where it is and no other forwarder of the node may ask through it.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn no_underlay(&self) -> Result<(), NetnsError> {
        let mark = self.shared.mark;
        self.workers().run(move |_| {
            if owner::others(mark) {
                return Ok(());
            }
            let done = Socket::open()?.execute(&[messages::delete_link(Place::Own, NAME)]);
            match done {
                Err(error) if error.errno.abs() == ENODEV => Ok(()),
                other => other.map_err(NetnsError::from),
            }
        })?
    }
}

fn index() -> Result<Option<u32>, KernelError> {
    let link = LinkReader::open()?.link(None, NAME)?;
    Ok(link
        .filter(|link| link.vni == Some(VNI))
        .map(|link| link.index))
}

fn create(socket: &mut Socket, local: IpAddr, port: u16) -> Result<u32, KernelError> {
    match socket.execute(&[new_device(local, port)]) {
        Err(error) if error.errno.abs() == EEXIST => {}
        other => other?,
    }
    let index =
        index()?.ok_or_else(|| KernelError::new("create link", NAME.to_owned(), -EEXIST))?;
    let own = IpNet::V6(Ipv6Net::new_assert(inner(local), 64));
    socket.execute(&[
        messages::no_addresses(index, NAME.to_owned()),
        contents::add_address(index, own, NAME.to_owned()),
        messages::set_up(index, true, NAME),
    ])?;
    Ok(index)
}

fn new_device(local: IpAddr, port: u16) -> Request {
    let mut data = vec![
        InfoVxlan::Id(VNI),
        InfoVxlan::Learning(false),
        InfoVxlan::Port(port),
    ];
    match local {
        IpAddr::V4(local) => data.push(InfoVxlan::Local(local)),
        // As the tunnels have it, or the kernel does not share their socket.
        IpAddr::V6(local) => {
            data.extend([InfoVxlan::Local6(local), InfoVxlan::UDPZeroCsumRX(true)]);
        }
    }
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(NAME.to_owned()),
        LinkAttribute::Address(mac(local).to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(data)),
        ]),
    ];
    Request::new(
        "create link",
        NAME,
        NLM_F_CREATE | NLM_F_EXCL,
        RouteNetlinkMessage::NewLink(link),
    )
}

/// Which hardware address a peer has, and at which node that is.
fn entries(index: u32, peer: IpAddr) -> [Request; 2] {
    let entry = |op, family, flags, destination| {
        let mut message = NeighbourMessage::default();
        message.header.family = family;
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.header.flags = flags;
        message.attributes = vec![
            NeighbourAttribute::Destination(destination),
            NeighbourAttribute::LinkLayerAddress(mac(peer).to_vec()),
        ];
        let message = RouteNetlinkMessage::NewNeighbour(message);
        let object = format!("{peer} at {NAME}");
        Request::new(op, object, NLM_F_CREATE | NLM_F_REPLACE, message)
    };
    [
        entry(
            "add neighbour",
            AddressFamily::Inet6,
            NeighbourFlags::empty(),
            NeighbourAddress::Inet6(inner(peer)),
        ),
        entry(
            "add forwarding entry",
            AddressFamily::Bridge,
            NeighbourFlags::Own,
            peer.into(),
        ),
    ]
}

/// A node's address on the device: both ends derive it from where its tunnels end.
fn inner(node: IpAddr) -> Ipv6Addr {
    let id = match node {
        IpAddr::V4(node) => 0x6e73_6d00_0000_0000 | u64::from(node.to_bits()),
        IpAddr::V6(node) => {
            let [a, b, c, d, e, f, g, h] = node.segments();
            let half = |words: [u16; 4]| {
                words
                    .iter()
                    .fold(0, |all, word| all << 16 | u64::from(*word))
            };
            half([a, b, c, d]) ^ half([e, f, g, h])
        }
    };
    Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(id))
}

/// Locally administered, unicast (IEEE 802).
fn mac(node: IpAddr) -> [u8; 6] {
    let [.., a, b, c, d] = inner(node).octets();
    [0x02, 0x6e, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_one_address_and_no_two_nodes_the_same() {
        let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:1::1"];
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let inside: std::collections::BTreeSet<_> =
            addresses.iter().map(|node| inner(*node)).collect();
        assert_eq!(inside.len(), addresses.len());
        assert!(inside.iter().all(Ipv6Addr::is_unicast_link_local));
        assert_eq!(inner(addresses[0]).to_string(), "fe80::6e73:6d00:c000:201");
    }
}
