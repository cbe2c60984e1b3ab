//! Silent loss on the underlay: a node drops what another one sends it, and nobody is told.
//!
//! One nf_tables rule on the receiving node (nf_tables' uapi header; nfnetlink), so that the
//! sender learns nothing, as with a dead path between switches.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::error::LabError;
use crate::node::Node;

const NETLINK_NETFILTER: u32 = 12;
const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const REQUEST: u16 = 0x01;
const ACK: u16 = 0x04;
const CREATE: u16 = 0x400;
const NESTED: u16 = 0x8000;
/// The family of our table: IPv4.
const FAMILY: u8 = 2;
/// Packets to this node itself, before any other rule of it.
const HOOK_LOCAL_IN: u32 = 1;
const PRIORITY: i32 = -300;
/// Where the sender's address is in an IPv4 header, and the key of the protocol.
const SOURCE_OFFSET: u32 = 12;
const META_PROTOCOL: u32 = 16;
const UDP: u8 = 17;
const CHAIN: &str = "in";
/// Room for one answer.
const ANSWER_MAX: usize = 4096;

/// What gets lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Datagrams: tunnels break, the control plane (TCP) does not.
    Datagrams,
    /// Everything: the sender is as if it were not there.
    Everything,
}

/// A rule that drops; it goes when this is dropped.
#[derive(Debug)]
pub struct Silence {
    on: Node,
    table: String,
}

impl Silence {
    /// From now on `on` loses what `from` sends to its IPv4 address.
    ///
    /// # Errors
    /// [`LabError::System`] when the kernel refuses the rule (nf_tables is missing),
    /// [`LabError::Dead`].
    pub fn start(on: &Node, from: &Node, lost: Lost) -> Result<Self, LabError> {
        let table = format!("lab-{}", from.name());
        let sender = from.addresses().v4;
        let rule = [
            message(NEW_TABLE, &[text(1, &table)]),
            message(
                NEW_CHAIN,
                &[text(1, &table), text(3, CHAIN), hook(), text(7, "filter")],
            ),
            message(
                NEW_RULE,
                &[text(1, &table), text(2, CHAIN), drops(sender, lost)],
            ),
        ];
        send(on, &rule)?;
        Ok(Self {
            on: on.clone(),
            table,
        })
    }

    /// Lets everything through again.
    ///
    /// # Errors
    /// As [`Silence::start`].
    pub fn end(self) -> Result<(), LabError> {
        self.remove()
    }

    fn remove(&self) -> Result<(), LabError> {
        send(&self.on, &[message(DELETE_TABLE, &[text(1, &self.table)])])
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // It is gone already after `end`, or with its node.
        let _ = self.remove();
    }
}

fn send(on: &Node, messages: &[Vec<u8>]) -> Result<(), LabError> {
    let outcome = on.cell().within(|| transact(messages))?;
    let what = || format!("filter packets on node {}", on.name());
    outcome.map_err(|e| LabError::system(what(), e))
}

fn transact(messages: &[Vec<u8>]) -> io::Result<()> {
    let protocol =
        std::num::NonZeroU32::new(NETLINK_NETFILTER).map(rustix::net::Protocol::from_raw);
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    let mut batch = header(BATCH_BEGIN, REQUEST, 0, 10u16, &[]);
    for one in messages {
        batch.extend_from_slice(one);
    }
    batch.extend(header(BATCH_END, REQUEST, 0, 10u16, &[]));
    rustix::net::send(&socket, &batch, SendFlags::empty())?;
    messages.iter().try_for_each(|_| acknowledged(&socket))
}

fn acknowledged(socket: &OwnedFd) -> io::Result<()> {
    let mut answer = [0u8; ANSWER_MAX];
    let (received, _) = rustix::net::recv(socket, &mut answer[..], RecvFlags::empty())?;
    if received < 20 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

// === impl messages ===

fn message(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    header(
        kind,
        REQUEST | ACK | CREATE,
        FAMILY,
        0,
        &attributes.concat(),
    )
}

/// A netlink header, the four bytes of nfgenmsg, and what follows.
fn header(kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, format!("{value}\0").as_bytes())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn nest(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &parts.concat())
}

fn hook() -> Vec<u8> {
    let priority = PRIORITY.to_be_bytes();
    nest(4, &[number(1, HOOK_LOCAL_IN), attribute(2, &priority)])
}

fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    nest(1, &[text(1, name), nest(2, data)])
}

fn equals(value: &[u8]) -> Vec<u8> {
    let data = nest(3, &[attribute(1, value)]);
    expression("cmp", &[number(1, 1), number(2, 0), data])
}

/// The rule's expressions: from the sender, of this protocol, drop.
fn drops(sender: Ipv4Addr, lost: Lost) -> Vec<u8> {
    let source = [
        number(1, 1),
        number(2, 1),
        number(3, SOURCE_OFFSET),
        number(4, 4),
    ];
    let mut list = vec![expression("payload", &source), equals(&sender.octets())];
    if lost == Lost::Datagrams {
        list.push(expression(
            "meta",
            &[number(1, 1), number(2, META_PROTOCOL)],
        ));
        list.push(equals(&[UDP]));
    }
    let verdict = nest(2, &[nest(2, &[number(1, 0)])]);
    list.push(expression("immediate", &[number(1, 0), verdict]));
    nest(4, &list)
}
