//! The messages that fill a link: addresses, routes, neighbours.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nsm_plan::{Address, Neighbour, Route};

use crate::netlink::Request;

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn address_message(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(net.addr());
    message.header.prefix_len = net.prefix_len();
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(net.addr()),
        AddressAttribute::Address(net.addr()),
    ];
    if net.addr().is_ipv6() {
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}

pub(crate) fn new_address(index: u32, address: &Address) -> Request {
    let object = format!("{} on {} in {}", address.net, address.name, address.netns);
    add_address(index, address.net, object)
}

pub(crate) fn add_address(index: u32, net: IpNet, object: String) -> Request {
    let message = RouteNetlinkMessage::NewAddress(address_message(index, net));
    Request::new("add address", object, NLM_F_CREATE | NLM_F_EXCL, message)
}

pub(crate) fn delete_address(index: u32, address: &Address) -> Request {
    let object = format!("{} on {} in {}", address.net, address.name, address.netns);
    let message = RouteNetlinkMessage::DelAddress(address_message(index, address.net));
    Request::new("delete address", object, 0, message)
}

pub(crate) fn route_message(index: u32, destination: IpNet, via: Option<IpAddr>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination.addr());
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.header.scope = RouteScope::Universe;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(destination.addr())),
        RouteAttribute::Oif(index),
    ];
    match via {
        Some(via) => {
            message.header.flags = RouteFlags::Onlink;
            message
                .attributes
                .push(RouteAttribute::Gateway(RouteAddress::from(via)));
        }
        None if destination.addr().is_ipv4() => message.header.scope = RouteScope::Link,
        None => {}
    }
    message
}

pub(crate) fn new_route(index: u32, route: &Route, replace: bool) -> Request {
    let flags = if replace {
        NLM_F_CREATE | NLM_F_REPLACE
    } else {
        NLM_F_CREATE | NLM_F_EXCL
    };
    let message = RouteNetlinkMessage::NewRoute(route_message(index, route.destination, route.via));
    Request::new("add route", route_object(route), flags, message)
}

pub(crate) fn delete_route(index: u32, route: &Route) -> Request {
    let message = RouteNetlinkMessage::DelRoute(route_message(index, route.destination, route.via));
    Request::new("delete route", route_object(route), 0, message)
}

fn route_object(route: &Route) -> String {
    format!(
        "{} through {} in {}",
        route.destination, route.name, route.netns
    )
}

fn neighbour_message(index: u32, neighbour: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(neighbour.address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(neighbour.address.into()),
        NeighbourAttribute::LinkLayerAddress(neighbour.mac.to_vec()),
    ];
    message
}

pub(crate) fn new_neighbour(index: u32, neighbour: &Neighbour) -> Request {
    let object = format!(
        "{} on {} in {}",
        neighbour.address, neighbour.name, neighbour.netns
    );
    let message = RouteNetlinkMessage::NewNeighbour(neighbour_message(index, neighbour));
    Request::new(
        "add neighbour",
        object,
        NLM_F_CREATE | NLM_F_REPLACE,
        message,
    )
}

pub(crate) fn delete_neighbour(index: u32, neighbour: &Neighbour) -> Request {
    let object = format!(
        "{} on {} in {}",
        neighbour.address, neighbour.name, neighbour.netns
    );
    let message = RouteNetlinkMessage::DelNeighbour(neighbour_message(index, neighbour));
    Request::new("delete neighbour", object, 0, message)
}

/// Lists what is known of neighbours, and who is being asked for.
pub(crate) fn list_neighbours(object: String) -> Request {
    let message = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    Request::new("list neighbours", object, 0, message)
}

/// Makes the kernel ask for a neighbour's hardware address now: it forgets when it asked last, and
/// keeps what waits for the answer.
pub(crate) fn ask_again(known: &NeighbourMessage, object: &str) -> [Request; 2] {
    let is_address = |one: &&NeighbourAttribute| matches!(one, NeighbourAttribute::Destination(_));
    let mut forget = NeighbourMessage::default();
    forget.header.family = known.header.family;
    forget.header.ifindex = known.header.ifindex;
    forget.attributes = known
        .attributes
        .iter()
        .filter(is_address)
        .cloned()
        .collect();
    let mut ask = forget.clone();
    ask.header.flags = NeighbourFlags::Use;
    [forget, ask].map(|message| {
        let message = RouteNetlinkMessage::NewNeighbour(message);
        Request::new("ask for neighbour", object, NLM_F_REPLACE, message)
    })
}

/// Asks how a packet to this address would go: `local` once the address is usable.
pub(crate) fn get_route(address: IpAddr) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::from(address))];
    Request::new(
        "look up route",
        address.to_string(),
        0,
        RouteNetlinkMessage::GetRoute(message),
    )
}
