//! The messages about links and namespaces; what fills a link is in `contents`.

use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, InfoVxlan,
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use nsm_plan::{End, GROUP, REAP_GROUP, Tunnel};

use crate::netlink::Request;
use crate::netns::NetnsFd;
use crate::owner::{self, Mark};

/// `NETNSA_NSID` for "any free number" (`NETNSA_NSID_NOT_ASSIGNED`).
const ANY_NSID: i32 = -1;
/// How links that wait for their deletion are called; the index makes the name unique in its
/// namespace.
pub(crate) const REAPED_PREFIX: &str = "nsz-";

/// Where a message acts: in the socket's own namespace, or in the one with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Own,
    Nsid(i32),
}

fn born(end: &End, index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes = vec![
        LinkAttribute::IfName(end.name.to_string()),
        LinkAttribute::Address(end.mac.to_vec()),
        LinkAttribute::Mtu(end.mtu.get()),
        LinkAttribute::Group(GROUP),
    ];
    link
}

fn create(end: &End, link: LinkMessage) -> Request {
    let object = format!("{} in {}", end.name, end.netns);
    Request::new(
        "create link",
        object,
        NLM_F_CREATE | NLM_F_EXCL,
        RouteNetlinkMessage::NewLink(link),
    )
}

/// A veth pair, both ends born in their namespaces.
pub(crate) fn new_veth(far: (&End, u32, &NetnsFd), near: (&End, u32, &NetnsFd)) -> Request {
    let mut peer = born(near.0, near.1);
    peer.attributes.push(LinkAttribute::NetNsFd(near.2.raw()));
    let mut link = born(far.0, far.1);
    link.attributes.push(LinkAttribute::NetNsFd(far.2.raw()));
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    create(far.0, link)
}

/// A VXLAN device born in a workload's namespace; its underlay is in the sending socket's.
pub(crate) fn new_vxlan(end: &End, index: u32, netns: &NetnsFd, tunnel: &Tunnel) -> Request {
    let mut data = vec![
        InfoVxlan::Id(tunnel.vni.get()),
        // Learning would let a stranger who knows the VNI draw the connection's traffic off.
        InfoVxlan::Learning(false),
        InfoVxlan::Port(tunnel.port),
    ];
    match tunnel.local {
        IpAddr::V4(local) => data.push(InfoVxlan::Local(local)),
        IpAddr::V6(local) => data.push(InfoVxlan::Local6(local)),
    }
    match tunnel.remote {
        IpAddr::V4(remote) => data.push(InfoVxlan::Group(remote)),
        // Peers may send without an outer checksum over IPv6 (RFC 7348 section 4.3, RFC 6935); take
        // both.
        IpAddr::V6(remote) => {
            data.extend([InfoVxlan::Group6(remote), InfoVxlan::UDPZeroCsumRX(true)])
        }
    }
    let mut link = born(end, index);
    link.attributes.push(LinkAttribute::NetNsFd(netns.raw()));
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vxlan),
        LinkInfo::Data(InfoData::Vxlan(data)),
    ]));
    create(end, link)
}

/// A VXLAN device of VNI 0, which no connection has, without a peer. Born in `netns`, its underlay
/// in the sending socket's namespace.
pub(crate) fn new_anchor(
    (name, index): (&str, u32),
    netns: &NetnsFd,
    port: u16,
    ipv6: bool,
) -> Request {
    let mut data = vec![
        InfoVxlan::Id(0),
        InfoVxlan::Learning(false),
        InfoVxlan::Port(port),
    ];
    if ipv6 {
        // As the tunnels have it, or the kernel does not share their socket.
        data.extend([
            InfoVxlan::Local6(Ipv6Addr::UNSPECIFIED),
            InfoVxlan::UDPZeroCsumRX(true),
        ]);
    }
    let mut link = by_index(index);
    link.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::NetNsFd(netns.raw()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(data)),
        ]),
    ];
    Request::new(
        "create link",
        name,
        NLM_F_CREATE | NLM_F_EXCL,
        RouteNetlinkMessage::NewLink(link),
    )
}

/// Gives a born (or adopted) end its alias and brings it up. Sent inside its namespace.
pub(crate) fn settle(end: &End, index: u32, mark: Option<Mark>) -> Vec<Request> {
    let object = format!("{} in {}", end.name, end.netns);
    let mut link = by_index(index);
    link.attributes = vec![
        LinkAttribute::IfAlias(owner::marked(mark, &end.alias)),
        LinkAttribute::Mtu(end.mtu.get()),
    ];
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    let up = Request::new(
        "bring up",
        object.clone(),
        0,
        RouteNetlinkMessage::SetLink(link),
    );
    // Within one message the kernel brings the link up first, and it would get its address before
    // it is told not to.
    let bare = end.bare.then(|| no_addresses(index, object));
    bare.into_iter().chain([up]).collect()
}

/// Tells an interface that is down not to give itself a link-local address.
pub(crate) fn no_addresses(index: u32, object: String) -> Request {
    let mut link = by_index(index);
    let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    link.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
        vec![none],
    )])];
    Request::new(
        "bar from addresses",
        object,
        0,
        RouteNetlinkMessage::SetLink(link),
    )
}

/// Sets these of a link.
pub(crate) fn set_link(index: u32, attributes: Vec<LinkAttribute>, object: &str) -> Request {
    let mut link = by_index(index);
    link.attributes = attributes;
    Request::new("set link", object, 0, RouteNetlinkMessage::SetLink(link))
}

/// Up or down, nothing else.
pub(crate) fn set_up(index: u32, up: bool, object: &str) -> Request {
    let mut link = by_index(index);
    link.header.flags = if up {
        LinkFlags::Up
    } else {
        LinkFlags::empty()
    };
    link.header.change_mask = LinkFlags::Up;
    Request::new(
        if up { "bring up" } else { "take down" },
        object,
        0,
        RouteNetlinkMessage::SetLink(link),
    )
}

/// Takes an end out of use: down, without alias, under a name that nobody wants, in the reaper's
/// group. Two messages in one send, because kernels before 6.2 do not rename a link that is up.
pub(crate) fn retire(index: u32, object: &str) -> [Request; 2] {
    let mut link = by_index(index);
    link.attributes = vec![
        LinkAttribute::IfName(reaped_name(index)),
        LinkAttribute::IfAlias(String::new()),
        LinkAttribute::Group(REAP_GROUP),
    ];
    [
        set_up(index, false, object),
        Request::new("retire link", object, 0, RouteNetlinkMessage::SetLink(link)),
    ]
}

pub(crate) fn reaped_name(index: u32) -> String {
    format!("{REAPED_PREFIX}{index:x}")
}

fn by_index(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link
}

fn by_name(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

fn at(mut link: LinkMessage, place: Place) -> LinkMessage {
    if let Place::Nsid(nsid) = place {
        link.attributes.push(LinkAttribute::IfNetnsId(nsid));
    }
    link
}

pub(crate) fn get_link_by_index(place: Place, index: u32) -> Request {
    let link = at(by_index(index), place);
    Request::new(
        "look up link",
        format!("#{index:x}"),
        0,
        RouteNetlinkMessage::GetLink(link),
    )
}

pub(crate) fn get_link_by_name(place: Place, name: &str) -> Request {
    Request::new(
        "look up link",
        name,
        0,
        RouteNetlinkMessage::GetLink(at(by_name(name), place)),
    )
}

/// Asks a question about a link without its counters, which are most of the answer.
pub(crate) fn without_counters(mut ask: Request) -> Request {
    if let RouteNetlinkMessage::GetLink(link) = ask.message_mut() {
        let mask = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
        link.attributes.push(mask);
    }
    ask
}

pub(crate) fn list_links(place: Place) -> Request {
    let object = match place {
        Place::Own => "of this namespace".to_owned(),
        Place::Nsid(nsid) => format!("of namespace number {nsid}"),
    };
    Request::new(
        "list links",
        object,
        0,
        RouteNetlinkMessage::GetLink(at(LinkMessage::default(), place)),
    )
}

pub(crate) fn delete_link(place: Place, name: &str) -> Request {
    Request::new(
        "delete link",
        name,
        0,
        RouteNetlinkMessage::DelLink(at(by_name(name), place)),
    )
}

pub(crate) fn delete_link_by_index(place: Place, index: u32, name: &str) -> Request {
    Request::new(
        "delete link",
        name,
        0,
        RouteNetlinkMessage::DelLink(at(by_index(index), place)),
    )
}

/// Gives a namespace a number in the sending socket's namespace; EEXIST when it has one.
pub(crate) fn new_nsid(netns: &NetnsFd) -> Request {
    let mut message = NsidMessage::default();
    message.attributes = vec![NsidAttribute::Id(ANY_NSID), fd_attribute(netns)];
    Request::new(
        "number namespace",
        netns.id().to_string(),
        0,
        RouteNetlinkMessage::NewNsId(message),
    )
}

/// Asks for a namespace's number.
pub(crate) fn get_nsid(netns: &NetnsFd) -> Request {
    let mut message = NsidMessage::default();
    message.attributes = vec![fd_attribute(netns)];
    Request::new(
        "number namespace",
        netns.id().to_string(),
        0,
        RouteNetlinkMessage::GetNsId(message),
    )
}

/// Lists the numbers of all namespaces known here.
pub(crate) fn list_nsids() -> Request {
    Request::new(
        "list namespaces",
        "with a number",
        0,
        RouteNetlinkMessage::GetNsId(NsidMessage::default()),
    )
}

fn fd_attribute(netns: &NetnsFd) -> NsidAttribute {
    /// `linux/net_namespace.h`.
    const NETNSA_FD: u16 = 3;
    NsidAttribute::Other(DefaultNla::new(
        NETNSA_FD,
        netns.raw().to_ne_bytes().to_vec(),
    ))
}
