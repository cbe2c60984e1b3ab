//! The handful of rtnetlink messages a lab needs (rtnetlink(7)): bridge, veth born in place,
//! address, up, delete.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 0x02;
const IFF_UP: u32 = 1;
/// Longest acknowledgement: the header, the error and an echo of a request of ours.
const ANSWER_MAX: usize = 8192;

struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        bytes.extend_from_slice(&1u32.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        self = fill(self.attribute(kind, &[]));
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

fn link_body(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0u8; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&flags.to_ne_bytes());
    body.extend_from_slice(&change.to_ne_bytes());
    body
}

/// A blocking rtnetlink socket of the namespace the calling thread is in.
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        // No protocol is NETLINK_ROUTE.
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(Self(socket))
    }

    /// The index of a link, by name.
    pub(crate) fn index(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.0, name)?)
    }

    pub(crate) fn add_bridge(&self, name: &str, mtu: u32) -> io::Result<u32> {
        let message = Message::new(
            RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL,
            &link_body(0, IFF_UP, IFF_UP),
        )
        .text(IFLA_IFNAME, name)
        .attribute(IFLA_MTU, &mtu.to_ne_bytes())
        .nest(IFLA_LINKINFO, |m| m.text(IFLA_INFO_KIND, "bridge"));
        self.call(message)?;
        self.index(name)
    }

    /// A pair of links: `name` here (a port of `master` if not 0), `peer` in the namespace of the
    /// descriptor. Ours is up; the peer cannot be born up (veth_open in the kernel's
    /// drivers/net/veth.c wants its pair complete).
    pub(crate) fn add_veth(
        &self,
        name: &str,
        mtu: u32,
        master: u32,
        peer: &str,
        namespace: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let mut message = Message::new(
            RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL,
            &link_body(0, IFF_UP, IFF_UP),
        )
        .text(IFLA_IFNAME, name)
        .attribute(IFLA_MTU, &mtu.to_ne_bytes());
        if master != 0 {
            message = message.attribute(IFLA_MASTER, &master.to_ne_bytes());
        }
        let message = message.nest(IFLA_LINKINFO, |m| {
            m.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |mut m| {
                    m.0.extend_from_slice(&link_body(0, 0, 0));
                    m.text(IFLA_IFNAME, peer)
                        .attribute(IFLA_MTU, &mtu.to_ne_bytes())
                        .attribute(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes())
                })
            })
        });
        self.call(message)
    }

    pub(crate) fn set_up(&self, index: u32) -> io::Result<()> {
        self.call(Message::new(
            RTM_NEWLINK,
            0,
            &link_body(index, IFF_UP, IFF_UP),
        ))
    }

    pub(crate) fn set_down(&self, index: u32) -> io::Result<()> {
        self.call(Message::new(RTM_NEWLINK, 0, &link_body(index, 0, IFF_UP)))
    }

    pub(crate) fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let (family, bytes) = match address {
            IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
            IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
        };
        let mut body = vec![u8::try_from(family).unwrap_or(0), prefix, IFA_F_NODAD, 0];
        body.extend_from_slice(&index.to_ne_bytes());
        let message = Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body)
            .attribute(IFA_LOCAL, &bytes)
            .attribute(IFA_ADDRESS, &bytes);
        self.call(message)
    }

    pub(crate) fn delete(&self, name: &str) -> io::Result<()> {
        self.call(Message::new(
            RTM_DELLINK,
            0,
            &link_body(self.index(name)?, 0, 0),
        ))
    }

    fn call(&self, mut message: Message) -> io::Result<()> {
        let length = u32::try_from(message.0.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        message.0[..4].copy_from_slice(&length.to_ne_bytes());
        rustix::net::send(&self.0, &message.0, SendFlags::empty())?;
        let mut answer = [0u8; ANSWER_MAX];
        let (received, _) = rustix::net::recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        if received < 20 || u16::from_ne_bytes([answer[4], answer[5]]) != NLMSG_ERROR {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "netlink answered with something else than an acknowledgement",
            ));
        }
        match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}
