//! The one table of payload, mechanism, overhead, port and encryption, read by negotiation, MTU
//! and warnings alike.

use std::fmt;

use super::Kind;

/// What a connection carries (`payload` on the wire).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Payload {
    /// Ethernet frames.
    Ethernet,
    /// IP packets.
    Ip,
    /// A payload that this version does not know.
    Other(String),
}

impl Payload {
    /// The payload with this name; "" is `IP`, the registry's default.
    pub fn parse(text: &str) -> Self {
        match text {
            "ETHERNET" => Self::Ethernet,
            "IP" | "" => Self::Ip,
            _ => Self::Other(text.to_owned()),
        }
    }

    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Ethernet => "ETHERNET",
            Self::Ip => "IP",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One mechanism's properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The mechanism.
    pub kind: Kind,
    /// Between nodes, not within one.
    pub remote: bool,
    /// Payloads it carries.
    pub payloads: &'static [Payload],
    /// Bytes it takes from the MTU of an IPv4 underlay.
    pub overhead_v4: u32,
    /// Bytes it takes from the MTU of an IPv6 underlay.
    pub overhead_v6: u32,
    /// Its UDP port, if it has one.
    pub port: Option<u16>,
    /// Whether others on the underlay cannot read it.
    pub encrypted: bool,
}

const BOTH: &[Payload] = &[Payload::Ethernet, Payload::Ip];
const IP: &[Payload] = &[Payload::Ip];

/// A mechanism within a node: no overhead, no port, and nobody between to read it.
const fn local(kind: Kind) -> Row {
    Row {
        kind,
        remote: false,
        payloads: BOTH,
        overhead_v4: 0,
        overhead_v6: 0,
        port: None,
        encrypted: true,
    }
}

/// All mechanisms; remote ones in the order in which they are preferred: encrypted first.
///
/// VXLAN adds 50 bytes (IPv4) or 70 (IPv6) of headers by RFC 7348 and in the kernel's accounting:
/// outer IP, UDP, VXLAN, inner Ethernet. What is negotiated is 54 and 74, as the Go implementation
/// subtracts (room for an inner VLAN tag): both ends must come to the same MTU, and a larger one on
/// our side would lose full-size packets towards it. The other overheads are its figures as well.
pub const TABLE: &[Row] = &[
    local(Kind::Kernel),
    local(Kind::Memif),
    local(Kind::Vfio),
    local(Kind::Noop),
    Row {
        kind: Kind::Wireguard,
        remote: true,
        payloads: IP,
        overhead_v4: 60,
        overhead_v6: 80,
        port: Some(51820),
        encrypted: true,
    },
    Row {
        kind: Kind::Ipsec,
        remote: true,
        payloads: IP,
        overhead_v4: 81,
        overhead_v6: 101,
        port: Some(4500),
        encrypted: true,
    },
    Row {
        kind: Kind::Vxlan,
        remote: true,
        payloads: BOTH,
        overhead_v4: 54,
        overhead_v6: 74,
        port: Some(4789),
        encrypted: false,
    },
    // No figures: upstream has constants for SRV6 and no forwarder that uses them.
    Row {
        kind: Kind::Srv6,
        remote: true,
        payloads: &[],
        overhead_v4: 0,
        overhead_v6: 0,
        port: None,
        encrypted: false,
    },
    // The 802.1Q tag is part of the frame, not of its MTU.
    Row {
        kind: Kind::Vlan,
        remote: true,
        payloads: BOTH,
        overhead_v4: 0,
        overhead_v6: 0,
        port: None,
        encrypted: false,
    },
];

/// The row of a mechanism; `None` for an unknown one.
pub fn row(kind: &Kind) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.kind == *kind)
}

/// The mechanisms between nodes that carry `payload`, preferred first.
pub fn remote_for(payload: &Payload) -> impl Iterator<Item = &'static Row> {
    TABLE
        .iter()
        .filter(move |row| row.remote && row.payloads.contains(payload))
}

/// Bytes that the mechanism takes from the MTU of an underlay; 0 for an unknown one.
pub fn overhead(kind: &Kind, ipv6: bool) -> u32 {
    row(kind).map_or(0, |row| {
        if ipv6 {
            row.overhead_v6
        } else {
            row.overhead_v4
        }
    })
}

/// The mechanism's UDP port.
pub fn default_port(kind: &Kind) -> Option<u16> {
    row(kind)?.port
}

/// Whether others on the underlay cannot read it; an unknown mechanism counts as readable.
pub fn encrypted(kind: &Kind) -> bool {
    row(kind).is_some_and(|row| row.encrypted)
}

/// Whether the mechanism is one between nodes; an unknown one counts as local.
pub fn is_remote(kind: &Kind) -> bool {
    row(kind).is_some_and(|row| row.remote)
}
