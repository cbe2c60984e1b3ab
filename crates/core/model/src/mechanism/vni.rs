//! VXLAN network identifiers: their parity rule and how one is picked.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const MAX_VNI: u32 = (1 << 24) - 1;

/// Refused VNIs remembered per peer: a peer refuses only what some link of its node holds, and a
/// thousand links to nodes other than ours with the very VNI we drew is beyond any real mesh.
const MAX_REFUSED: usize = 1024;

/// VNIs tried from the random start before giving up: a run of so many in use means that the node
/// holds far more tunnels than the kernel does.
const MAX_PROBES: u32 = 1 << 16;

/// A VXLAN network identifier: 24 bits, not 0 (RFC 7348 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// Why there is no VNI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VniError {
    /// The text or number is none.
    #[error("VNI {0:?} is not a number from 1 to {MAX_VNI}")]
    Range(String),
    /// Nothing free was found.
    #[error("no free VNI towards {peer} after {MAX_PROBES} tries")]
    Exhausted {
        /// The other node's underlay address.
        peer: IpAddr,
    },
}

impl Vni {
    /// Checks the range.
    pub fn new(number: u32) -> Result<Self, VniError> {
        if (1..=MAX_VNI).contains(&number) {
            Ok(Self(number))
        } else {
            Err(VniError::Range(number.to_string()))
        }
    }

    /// The identifier as a number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vni {
    type Error = VniError;

    fn try_from(number: u32) -> Result<Self, VniError> {
        Self::new(number)
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vni {
    type Err = VniError;

    fn from_str(text: &str) -> Result<Self, VniError> {
        text.parse()
            .ok()
            .and_then(|n| Self::new(n).ok())
            .ok_or_else(|| VniError::Range(text.to_owned()))
    }
}

/// Which half of the VNIs a node may choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// 2, 4, 6, ...
    Even,
    /// 1, 3, 5, ...
    Odd,
}

impl Parity {
    /// Whether `vni` belongs to this half.
    pub fn allows(self, vni: Vni) -> bool {
        (vni.0 & 1 == 0) == (self == Self::Even)
    }
}

/// The half that the endpoint's node chooses from: even if `src` (the client's node) is not above
/// `dst`, compared as 16 bytes; so two nodes that choose at once cannot collide (upstream
/// `vxlan/helpers.go`).
pub fn vni_parity(src: IpAddr, dst: IpAddr) -> Parity {
    if sixteen(src) <= sixteen(dst) {
        Parity::Even
    } else {
        Parity::Odd
    }
}

fn sixteen(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Picks VNIs for the endpoint's side, and never again one that a peer has refused.
#[derive(Clone, Debug, Default)]
pub struct VniPicker {
    refused: BTreeMap<IpAddr, VecDeque<Vni>>,
}

impl VniPicker {
    /// A picker that knows of no refusal.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers that the node `peer` could not use `vni` (its kernel said EEXIST).
    pub fn refuse(&mut self, peer: IpAddr, vni: Vni) {
        let list = self.refused.entry(peer).or_default();
        if list.contains(&vni) {
            return;
        }
        if list.len() == MAX_REFUSED {
            list.pop_front();
        }
        list.push_back(vni);
    }

    /// Forgets a peer's refusals: its last connection is gone.
    pub fn forget(&mut self, peer: IpAddr) {
        self.refused.remove(&peer);
    }

    /// The first VNI of the right parity, from one that `random` decides upwards and around, that
    /// is neither `in_use` here nor refused by `peer`.
    pub fn pick(
        &self,
        peer: IpAddr,
        parity: Parity,
        random: u32,
        mut in_use: impl FnMut(Vni) -> bool,
    ) -> Result<Vni, VniError> {
        let refused = self.refused.get(&peer);
        let (first, count) = match parity {
            Parity::Even => (2, MAX_VNI / 2),
            Parity::Odd => (1, MAX_VNI / 2 + 1),
        };
        (0..MAX_PROBES)
            .map(|probe| Vni(first + 2 * ((random % count + probe) % count)))
            .find(|vni| !refused.is_some_and(|list| list.contains(vni)) && !in_use(*vni))
            .ok_or(VniError::Exhausted { peer })
    }
}
