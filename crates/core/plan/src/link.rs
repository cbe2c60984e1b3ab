//! Links: what is born, where, under which name, group and alias.

use std::net::IpAddr;

use nsm_model::ifname::IfName;
use nsm_model::mechanism::{Mtu, Vni};
use serde::{Deserialize, Serialize};

use crate::{KeyDigest, Netns, Role};

/// `IFLA_GROUP` of every link we make: "nsm" in ASCII. A link is born with it; its alias follows a
/// moment later.
pub const GROUP: u32 = 0x006e_736d;
/// `IFLA_GROUP` of a link that was closed and waits for its deletion: "nsz" in ASCII. Nothing uses
/// such a link any more.
pub const REAP_GROUP: u32 = 0x006e_737a;
/// How an alias of ours begins; the digit is the format's version.
pub const ALIAS_PREFIX: &str = "nsm1:";

/// Indices of our links start here, above what a kernel counts up to by itself in a namespace's
/// life.
const INDEX_BASE: u32 = 0x0100_0000;
/// 24 bits are enough: an index has to be unique in one namespace only, and a collision is found at
/// birth.
const INDEX_MASK: u32 = 0x00ff_ffff;

/// Set in every second index of an interface that is replaced while packets flow. Between it and
/// `INDEX_BASE` is room for the indices tried where one is taken.
const INDEX_OTHER: u32 = 0x1000_0000;

/// One end of a link in one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Client or endpoint side.
    pub role: Role,
    /// Where it is born.
    pub netns: Netns,
    /// The interface's name.
    pub name: IfName,
    /// The interface's index, chosen here so that nobody has to look it up.
    pub index: u32,
    /// The interface's hardware address.
    #[serde(with = "crate::mac")]
    pub mac: [u8; 6],
    /// MTU in bytes.
    pub mtu: Mtu,
    /// The alias that says whose it is; see [`alias`].
    pub alias: String,
    /// Born without automatic addresses (a bridge's port).
    pub bare: bool,
}

/// The outer half of a VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Our outer address.
    pub local: IpAddr,
    /// The peer's outer address.
    pub remote: IpAddr,
    /// UDP port at both ends.
    pub port: u16,
    /// VXLAN network identifier.
    pub vni: Vni,
}

/// A device, or a pair of devices that live and die together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// A veth pair, both ends born in their namespaces; the far (endpoint's) end first.
    Veth {
        /// The endpoint's end.
        far: End,
        /// The client's end.
        near: End,
    },
    /// A VXLAN device born in a workload's namespace, its underlay in the node's.
    Vxlan {
        /// The device.
        end: End,
        /// Its underlay.
        tunnel: Tunnel,
    },
}

impl Link {
    /// The ends in the order in which they are set up.
    #[must_use]
    pub fn ends(&self) -> Vec<&End> {
        match self {
            Self::Veth { far, near } => vec![far, near],
            Self::Vxlan { end, .. } => vec![end],
        }
    }

    pub(crate) fn ends_mut(&mut self) -> Vec<&mut End> {
        match self {
            Self::Veth { far, near } => vec![far, near],
            Self::Vxlan { end, .. } => vec![end],
        }
    }

    /// True where nothing but MTUs differs: those change while packets flow.
    #[must_use]
    pub fn resizes(&self, old: &Self) -> bool {
        let resized = |old: &End, new: &End| End {
            mtu: new.mtu,
            ..old.clone()
        };
        match (self, old) {
            (Self::Veth { far, near }, Self::Veth { far: f, near: n }) => {
                resized(f, far) == *far && resized(n, near) == *near
            }
            (Self::Vxlan { end, tunnel }, Self::Vxlan { end: e, tunnel: t }) => {
                resized(e, end) == *end && t == tunnel
            }
            (Self::Veth { .. } | Self::Vxlan { .. }, _) => false,
        }
    }

    /// The device's kind in the kernel's words.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Veth { .. } => "veth",
            Self::Vxlan { .. } => "vxlan",
        }
    }
}

/// The alias of a link's end: `nsm1:<32 hex digits of the key's digest>:<c|e>`, 39 bytes of the
/// kernel's 255.
#[must_use]
pub fn alias(key: KeyDigest, role: Role) -> String {
    format!("{ALIAS_PREFIX}{key}:{}", role.letter())
}

/// The key in an alias of ours; `None` when it is none.
#[must_use]
pub fn alias_key(alias: &str) -> Option<KeyDigest> {
    let (key, _role) = alias.strip_prefix(ALIAS_PREFIX)?.rsplit_once(':')?;
    KeyDigest::parse(key)
}

/// The index of what takes the place of an interface with this index; and of what takes that one's.
pub(crate) fn other_index(index: u32) -> u32 {
    index ^ INDEX_OTHER
}

/// Whether an index can be one of ours: no kernel counts that far by itself.
#[must_use]
pub fn is_ours(index: u32) -> bool {
    index >= INDEX_BASE
}

/// The index of a link's end, derived from the connection's key: the same after a restart, and
/// never 0.
#[must_use]
pub fn derived_index(key: KeyDigest, role: Role) -> u32 {
    let [a, b, c, ..] = key.0;
    let bits = u32::from_be_bytes([0, a, b, c]);
    let mixed = match role {
        Role::Client => bits,
        // The two ends may be in one namespace.
        Role::Endpoint => bits ^ 1,
    };
    INDEX_BASE | (mixed & INDEX_MASK)
}
