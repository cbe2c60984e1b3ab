//! What a lab and an endpoint's own namespace need besides plans: namespaces, pairs, addresses,
//! routes; and the questions a forwarder asks about its underlay.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use nsm_model::ifname::IfName;

use crate::contents;
use crate::error::{KernelError, NetnsError};
use crate::messages::{self, Place};
use crate::netlink::{Request, Socket};
use crate::netns::{NetnsFd, Workers};
use crate::stats;

/// Any port will do to ask for a route; nothing is sent.
const PROBE_PORT: u16 = 9;
/// The loopback device's index in every namespace.
const LOOPBACK_INDEX: u32 = 1;

/// Makes a new network namespace with its loopback up. It lives as long as the descriptor or
/// something inside.
///
/// # Errors
/// Mostly EPERM: needs `CAP_SYS_ADMIN`.
pub fn new_netns(workers: &Workers) -> Result<NetnsFd, NetnsError> {
    workers.run(|inside| {
        let netns = inside.create()?;
        Socket::open()?.execute(&[messages::set_up(LOOPBACK_INDEX, true, "lo")])?;
        Ok(netns)
    })?
}

/// Makes a veth pair with an end in each namespace, both up.
///
/// # Errors
/// The kernel's, e.g. EEXIST for a name in use.
pub fn veth(
    workers: &Workers,
    one: (&NetnsFd, &IfName),
    other: (&NetnsFd, &IfName),
    mtu: u32,
) -> Result<(), NetnsError> {
    let end = |(netns, name): (&NetnsFd, &IfName)| {
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(name.to_string()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::NetNsFd(std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(
                netns,
            ))),
        ];
        link
    };
    let mut link = end(one);
    let peer = InfoData::Veth(InfoVeth::Peer(end(other)));
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(peer),
    ]));
    let object = format!("{} and {}", one.1, other.1);
    let request = Request::new(
        "create pair",
        object,
        NLM_F_CREATE | NLM_F_EXCL,
        RouteNetlinkMessage::NewLink(link),
    );
    workers.run(move |_| Socket::open()?.execute(&[request]))??;
    for (netns, name) in [one, other] {
        within(workers, netns, {
            let name = name.clone();
            move |own| own.up(&name)
        })?;
    }
    Ok(())
}

/// Runs a job with the socket of a namespace.
///
/// # Errors
/// The job's, or when the namespace cannot be entered.
pub fn within<T, F>(workers: &Workers, netns: &NetnsFd, job: F) -> Result<T, NetnsError>
where
    T: Send + 'static,
    F: FnOnce(&mut Own) -> Result<T, KernelError> + Send + 'static,
{
    Ok(workers.inside(netns, move || job(&mut Own::open()?))??)
}

/// A network namespace seen from inside: the caller's own, or a worker's during a job.
#[derive(Debug)]
pub struct Own {
    pub(crate) socket: Socket,
}

impl Own {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self {
            socket: Socket::open()?,
        })
    }

    /// The index of an interface.
    ///
    /// # Errors
    /// ENODEV when there is none of this name.
    pub fn index(&mut self, name: &IfName) -> Result<u32, KernelError> {
        let replies = self
            .socket
            .query(messages::get_link_by_name(Place::Own, name.as_str()))?;
        let found = replies
            .iter()
            .find_map(stats::state)
            .map(|state| state.index);
        found.ok_or_else(|| KernelError::new("look up link", name.as_str(), libc::ENODEV))
    }

    /// Brings an interface up.
    ///
    /// # Errors
    /// The kernel's.
    pub fn up(&mut self, name: &IfName) -> Result<(), KernelError> {
        let index = self.index(name)?;
        self.socket
            .execute(&[messages::set_up(index, true, name.as_str())])
    }

    /// Brings the loopback device up.
    ///
    /// # Errors
    /// The kernel's.
    pub fn loopback_up(&mut self) -> Result<(), KernelError> {
        self.socket
            .execute(&[messages::set_up(LOOPBACK_INDEX, true, "lo")])
    }

    /// Gives an interface an address; one that it has is a success. IPv6 without duplicate address
    /// detection.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_address(&mut self, name: &IfName, net: IpNet) -> Result<(), KernelError> {
        let index = self.index(name)?;
        match self.socket.execute(&[contents::add_address(
            index,
            net,
            format!("{net} on {name}"),
        )]) {
            Err(error) if error.errno == libc::EEXIST => Ok(()),
            other => other,
        }
    }

    /// Sets a route through an interface, with or without a next hop. A default route is
    /// `0.0.0.0/0` or `::/0`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_route(
        &mut self,
        name: &IfName,
        destination: IpNet,
        via: Option<IpAddr>,
    ) -> Result<(), KernelError> {
        let index = self.index(name)?;
        let message =
            RouteNetlinkMessage::NewRoute(contents::route_message(index, destination.trunc(), via));
        let object = format!("{destination} through {name}");
        self.socket.execute(&[Request::new(
            "set route",
            object,
            NLM_F_CREATE | NLM_F_REPLACE,
            message,
        )])
    }

    /// Deletes an interface; none of this name is a success.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete(&mut self, name: &IfName) -> Result<(), KernelError> {
        match self
            .socket
            .execute(&[messages::delete_link(Place::Own, name.as_str())])
        {
            Err(error) if error.is_gone() => Ok(()),
            other => other,
        }
    }

    /// The MTU in bytes of the device that holds an address; `None` when no device does.
    ///
    /// # Errors
    /// The kernel's.
    pub fn mtu_of(&mut self, address: IpAddr) -> Result<Option<u32>, KernelError> {
        let mut ask = AddressMessage::default();
        ask.header.family = contents::family(address);
        let ask = Request::new(
            "list addresses",
            address.to_string(),
            0,
            RouteNetlinkMessage::GetAddress(ask),
        );
        let addresses = self.socket.dump(&ask)?;
        let Some(index) = addresses
            .iter()
            .find_map(|message| holder(message, address))
        else {
            return Ok(None);
        };
        let replies = self
            .socket
            .query(messages::get_link_by_index(Place::Own, index))?;
        Ok(replies.iter().find_map(stats::state).map(|state| state.mtu))
    }
}

fn holder(message: &RouteNetlinkMessage, wanted: IpAddr) -> Option<u32> {
    let RouteNetlinkMessage::NewAddress(have) = message else {
        return None;
    };
    let holds = have.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Local(address) | AddressAttribute::Address(address) => *address == wanted,
        _ => false,
    });
    holds.then_some(have.header.index)
}

/// The address that the calling thread's namespace uses towards a peer. Sends nothing.
///
/// # Errors
/// ENETUNREACH when there is no route.
pub fn local_address_towards(peer: IpAddr) -> Result<IpAddr, KernelError> {
    let any: IpAddr = if peer.is_ipv4() {
        [0u8; 4].into()
    } else {
        [0u8; 16].into()
    };
    let ask = || {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(SocketAddr::new(peer, PROBE_PORT))?;
        std::io::Result::Ok(socket.local_addr()?.ip())
    };
    ask().map_err(|e| KernelError::io("find the local address towards", peer.to_string(), &e))
}
