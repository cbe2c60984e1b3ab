//! What links there are, whose they are, and what went through them.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use nsm_plan::{GROUP, REAP_GROUP};

use crate::error::KernelError;
use crate::messages::{self, Place, get_link_by_index, get_link_by_name, list_links};
use crate::netlink::{Outcome, Socket};
use crate::nsid;
use crate::owner::Mark;

/// Counters of a link since its birth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Received packets dropped.
    pub rx_drops: u64,
    /// Packets dropped instead of sent.
    pub tx_drops: u64,
}

/// A link as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Index in its namespace.
    pub index: u32,
    /// Name in its namespace.
    pub name: String,
    /// Alias without its mark; empty when it has none.
    pub alias: String,
    /// Whose it is, as its alias says.
    pub mark: Option<Mark>,
    /// Group number.
    pub group: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// Hardware address.
    pub mac: Vec<u8>,
    /// Administratively up.
    pub up: bool,
    /// Up and with a carrier.
    pub running: bool,
    /// What it is in the kernel's words: `veth`, `vxlan`; empty for a device without a driver's
    /// name.
    pub kind: String,
    /// VXLAN identifier, for a VXLAN device.
    pub vni: Option<u32>,
    /// A VXLAN device's peer.
    pub remote: Option<IpAddr>,
    /// The index of a pair's other end, in its own namespace.
    pub peer: Option<u32>,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Its counters.
    pub counters: Counters,
}

impl LinkState {
    /// Made by us: in one of our groups.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.group == GROUP || self.group == REAP_GROUP
    }

    pub(crate) fn read(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut state = Self {
            index: message.header.index,
            name: String::new(),
            alias: String::new(),
            mark: None,
            group: 0,
            mtu: 0,
            mac: Vec::new(),
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Running),
            kind: String::new(),
            vni: None,
            remote: None,
            peer: None,
            master: None,
            counters: Counters::default(),
        };
        for attribute in &message.attributes {
            state.take(attribute);
        }
        state
    }

    fn take(&mut self, attribute: &LinkAttribute) {
        match attribute {
            LinkAttribute::IfName(name) => self.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => {
                let (plain, mark) = Mark::split(alias);
                self.alias = plain.to_owned();
                self.mark = mark;
            }
            LinkAttribute::Group(group) => self.group = *group,
            LinkAttribute::Mtu(mtu) => self.mtu = *mtu,
            LinkAttribute::Address(mac) => self.mac.clone_from(mac),
            LinkAttribute::Controller(master) => self.master = Some(*master),
            LinkAttribute::Link(peer) => self.peer = Some(*peer),
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| self.learn(info)),
            LinkAttribute::Stats64(stats) => {
                self.counters = Counters {
                    rx_packets: stats.rx_packets,
                    tx_packets: stats.tx_packets,
                    rx_bytes: stats.rx_bytes,
                    tx_bytes: stats.tx_bytes,
                    rx_drops: stats.rx_dropped,
                    tx_drops: stats.tx_dropped,
                };
            }
            _ => {}
        }
    }

    fn learn(&mut self, info: &LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = kind.to_string(),
            LinkInfo::Data(InfoData::Vxlan(data)) => {
                for item in data {
                    match item {
                        InfoVxlan::Id(id) => self.vni = Some(*id),
                        InfoVxlan::Group(remote) => self.remote = Some((*remote).into()),
                        InfoVxlan::Group6(remote) => self.remote = Some((*remote).into()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

pub(crate) fn state(message: &RouteNetlinkMessage) -> Option<LinkState> {
    match message {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            Some(LinkState::read(link))
        }
        _ => None,
    }
}

/// The first of a link looked up by index and one looked up by name that is wanted. Its counters
/// are not asked for.
pub(crate) fn find(
    socket: &mut Socket,
    place: Place,
    (index, name): (u32, &str),
    wanted: impl Fn(&LinkState) -> bool,
) -> Result<Option<LinkState>, KernelError> {
    for ask in [
        get_link_by_index(place, index),
        get_link_by_name(place, name),
    ] {
        let found = found(socket.query(messages::without_counters(ask)))?;
        if let Some(state) = found.filter(&wanted) {
            return Ok(Some(state));
        }
    }
    Ok(None)
}

/// The link with this index in the socket's namespace, if it is wanted.
pub(crate) fn find_index(
    socket: &mut Socket,
    index: u32,
) -> Result<Option<LinkState>, KernelError> {
    let ask = get_link_by_index(Place::Own, index);
    found(socket.query(messages::without_counters(ask)))
}

/// A link, or nothing where it or its namespace is gone.
fn found(outcome: Outcome) -> Result<Option<LinkState>, KernelError> {
    match outcome {
        Ok(replies) => Ok(replies.iter().find_map(state)),
        // EINVAL: no namespace has this number any more.
        Err(error) if error.is_gone() || error.errno == libc::EINVAL => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads links of namespaces by their number, from the node's namespace. Holds one socket.
#[derive(Debug)]
pub struct LinkReader {
    socket: Socket,
}

impl LinkReader {
    /// Opens a reader in the calling thread's namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self {
            socket: Socket::open()?,
        })
    }

    /// Numbers of all namespaces that have one here.
    ///
    /// # Errors
    /// The kernel's.
    pub fn namespaces(&mut self) -> Result<Vec<i32>, KernelError> {
        nsid::all(&mut self.socket)
    }

    /// All links of a namespace; of the reader's own without a number.
    ///
    /// # Errors
    /// The kernel's.
    pub fn links(&mut self, nsid: Option<i32>) -> Result<Vec<LinkState>, KernelError> {
        Ok(self
            .socket
            .dump(&list_links(place(nsid)))?
            .iter()
            .filter_map(state)
            .collect())
    }

    /// One link by name, `None` when there is none or the namespace is gone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn link(
        &mut self,
        nsid: Option<i32>,
        name: &str,
    ) -> Result<Option<LinkState>, KernelError> {
        found(self.socket.query(get_link_by_name(place(nsid), name)))
    }
}

pub(crate) fn place(nsid: Option<i32>) -> Place {
    nsid.map_or(Place::Own, Place::Nsid)
}
