//! Typed resources and their identities.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use nsm_model::ifname::IfName;
use serde::{Deserialize, Serialize};

use crate::{Link, Netns};

/// A digest of a connection's key: what identities, aliases and indices are derived from. Never the
/// key itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyDigest(pub [u8; 16]);

impl KeyDigest {
    /// Reads 32 hexadecimal digits, as they stand in an alias.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        u128::from_str_radix(text, 16)
            .ok()
            .map(|n| Self(n.to_be_bytes()))
    }
}

impl TryFrom<String> for KeyDigest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("key {text:?} is not 32 hexadecimal digits"))
    }
}

impl From<KeyDigest> for String {
    fn from(key: KeyDigest) -> Self {
        key.to_string()
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Which side of the connection something serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Towards the client.
    Client,
    /// Towards the endpoint.
    Endpoint,
}

impl Role {
    /// `c` or `e`, as in an alias.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Client => 'c',
            Self::Endpoint => 'e',
        }
    }
}

/// What a resource is, within its connection and side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The link, or the pair of links.
    Link,
    /// A kernel parameter.
    Sysctl(String),
    /// An address of the side's interface.
    Address(IpNet),
    /// A route through the side's interface.
    Route(IpNet),
    /// A permanent neighbour of the side's interface.
    Neighbour(IpAddr),
}

/// Identity of a resource: the same for the same connection, whenever and wherever the plan is
/// made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ResourceId {
    /// Of the connection that asked for it first.
    pub key: KeyDigest,
    /// The side it serves; a pair of links counts to the endpoint's side, which is set up first.
    pub role: Role,
    /// What it is.
    pub what: What,
}

/// A piece of desired kernel state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// A device or a pair of devices: named, with alias, up.
    Link(Link),
    /// A kernel parameter of an interface.
    Sysctl(Sysctl),
    /// An address.
    Address(Address),
    /// A route.
    Route(Route),
    /// A permanent neighbour.
    Neighbour(Neighbour),
}

/// A parameter under `/proc/sys/net` of one namespace. It dies with its interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// Where.
    pub netns: Netns,
    /// Path below `/proc/sys/net`, e.g. `ipv6/conf/nsm-1/disable_ipv6`.
    pub path: String,
    /// The wanted value.
    pub value: String,
}

/// An address of an interface. IPv6 addresses skip duplicate address detection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Where.
    pub netns: Netns,
    /// The interface's name, for messages.
    pub name: IfName,
    /// The interface's index.
    pub index: u32,
    /// The address with its prefix length.
    pub net: IpNet,
}

/// A route through an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where.
    pub netns: Netns,
    /// The interface's name, for messages.
    pub name: IfName,
    /// The interface's index.
    pub index: u32,
    /// The destination.
    pub destination: IpNet,
    /// The next hop, taken as reachable on the interface (`onlink`); without one the destination is
    /// on the link.
    pub via: Option<IpAddr>,
}

/// A permanent neighbour of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Where.
    pub netns: Netns,
    /// The interface's name, for messages.
    pub name: IfName,
    /// The interface's index.
    pub index: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// The neighbour's hardware address.
    #[serde(with = "crate::mac")]
    pub mac: [u8; 6],
}

impl Resource {
    /// The namespaces this touches, in the order in which they are set up.
    #[must_use]
    pub fn places(&self) -> Vec<Netns> {
        match self {
            Self::Link(link) => link.ends().iter().map(|end| end.netns).collect(),
            Self::Sysctl(s) => vec![s.netns],
            Self::Address(a) => vec![a.netns],
            Self::Route(r) => vec![r.netns],
            Self::Neighbour(n) => vec![n.netns],
        }
    }

    /// True where applying this overwrites the old version in one step, without a gap.
    #[must_use]
    pub fn overwrites(&self, old: &Self) -> bool {
        match (self, old) {
            (Self::Link(new), Self::Link(old)) => new.resizes(old),
            (Self::Route(_) | Self::Neighbour(_) | Self::Sysctl(_), _) => true,
            (Self::Link(_) | Self::Address(_), _) => false,
        }
    }
}
