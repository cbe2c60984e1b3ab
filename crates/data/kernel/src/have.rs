//! What fills the links of a namespace: its addresses, routes and neighbours, as dumped.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::error::KernelError;
use crate::netlink::{Request, Socket};

/// An address: the index of its interface, the address.
pub(crate) type HaveAddress = (u32, IpNet);
/// A route of the main table: the index of its interface, destination, next hop.
pub(crate) type HaveRoute = (u32, IpNet, Option<IpAddr>);
/// A permanent neighbour: the index of its interface, its address, its hardware address.
pub(crate) type HaveNeighbour = (u32, IpAddr, Vec<u8>);

/// What a namespace has.
#[derive(Debug, Default)]
pub(crate) struct Have {
    pub(crate) addresses: Vec<HaveAddress>,
    pub(crate) routes: Vec<HaveRoute>,
    pub(crate) neighbours: Vec<HaveNeighbour>,
}

impl Have {
    /// Asks for all of it.
    pub(crate) fn of(socket: &mut Socket) -> Result<Self, KernelError> {
        let mut have = Self::default();
        for (what, message) in [
            (
                "addresses",
                RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            ),
            (
                "routes",
                RouteNetlinkMessage::GetRoute(of_family(AddressFamily::Inet)),
            ),
            (
                "routes",
                RouteNetlinkMessage::GetRoute(of_family(AddressFamily::Inet6)),
            ),
            (
                "neighbours",
                RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
            ),
        ] {
            for message in socket.dump(&Request::new("list", what, 0, message))? {
                have.take(&message);
            }
        }
        Ok(have)
    }

    fn take(&mut self, message: &RouteNetlinkMessage) {
        match message {
            RouteNetlinkMessage::NewAddress(message) => self.addresses.extend(address(message)),
            RouteNetlinkMessage::NewRoute(message) => self.routes.extend(route(message)),
            RouteNetlinkMessage::NewNeighbour(message) => {
                self.neighbours.extend(neighbour(message));
            }
            _ => {}
        }
    }
}

fn of_family(family: AddressFamily) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message
}

/// The address of an interface. IPv4 tells it as `Local`, IPv6 as `Address` alone.
pub(crate) fn address(message: &AddressMessage) -> Option<HaveAddress> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => found = Some(*address),
            AddressAttribute::Address(address) => found = found.or(Some(*address)),
            _ => {}
        }
    }
    let net = IpNet::new(found?, message.header.prefix_len).ok()?;
    Some((message.header.index, net))
}

/// A route of the main table through one interface.
pub(crate) fn route(message: &RouteMessage) -> Option<HaveRoute> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    through(message)
}

/// The IPv6 addresses that are in use, each with its interface's index.
pub(crate) fn in_use(socket: &mut Socket) -> Result<Vec<(u32, IpAddr)>, KernelError> {
    let ask = RouteNetlinkMessage::GetRoute(of_family(AddressFamily::Inet6));
    let routes = socket.dump(&Request::new("list", "routes", 0, ask))?;
    let local = routes.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Local => {
            through(route)
        }
        _ => None,
    });
    Ok(local.map(|(index, net, _)| (index, net.addr())).collect())
}

fn through(message: &RouteMessage) -> Option<HaveRoute> {
    let (mut index, mut via) = (None, None);
    let mut destination = any(message.header.address_family)?;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::Oif(oif) => index = Some(*oif),
            _ => {}
        }
    }
    let destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    Some((index?, destination, via))
}

/// A default route has no destination.
fn any(family: AddressFamily) -> Option<IpAddr> {
    match family {
        AddressFamily::Inet => Some([0u8; 4].into()),
        AddressFamily::Inet6 => Some([0u8; 16].into()),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn neighbour(message: &NeighbourMessage) -> Option<HaveNeighbour> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, Vec::new());
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                address = Some(IpAddr::from(*ip));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                address = Some(IpAddr::from(*ip));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac.clone_from(bytes),
            _ => {}
        }
    }
    Some((message.header.ifindex, address?, mac))
}
