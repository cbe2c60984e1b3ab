//! The largest packet a link or tunnel takes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Every IPv4 link carries this much (RFC 791).
pub const MIN_MTU: u32 = 68;
/// The largest an IP packet can be, and the largest the kernel's veth and VXLAN take.
pub const MAX_MTU: u32 = 65_535;

/// An MTU in bytes, [`MIN_MTU`] to [`MAX_MTU`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Mtu(u32);

/// A number that is no MTU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MTU {0:?} is not a number from {MIN_MTU} to {MAX_MTU}")]
pub struct MtuError(pub String);

impl Mtu {
    /// Checks the range.
    pub fn new(bytes: u32) -> Result<Self, MtuError> {
        if (MIN_MTU..=MAX_MTU).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(MtuError(bytes.to_string()))
        }
    }

    /// The MTU in bytes.
    pub fn get(self) -> u32 {
        self.0
    }

    /// What is left inside a tunnel with `overhead` bytes; `None` if that is less than [`MIN_MTU`].
    pub fn minus(self, overhead: u32) -> Option<Self> {
        self.0
            .checked_sub(overhead)
            .and_then(|bytes| Self::new(bytes).ok())
    }
}

impl TryFrom<u32> for Mtu {
    type Error = MtuError;

    fn try_from(bytes: u32) -> Result<Self, MtuError> {
        Self::new(bytes)
    }
}

impl From<Mtu> for u32 {
    fn from(mtu: Mtu) -> Self {
        mtu.0
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Mtu {
    type Err = MtuError;

    fn from_str(text: &str) -> Result<Self, MtuError> {
        text.parse()
            .ok()
            .and_then(|bytes| Self::new(bytes).ok())
            .ok_or_else(|| MtuError(text.to_owned()))
    }
}
