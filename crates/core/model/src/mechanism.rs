//! Mechanisms: how packets enter and leave one side of a connection.
//!
//! The message stays the state. [`Kind`] names it, the typed views ([`Kernel`], [`Vxlan`]) read the
//! parameters they know and write back only those, so unknown kinds and parameters pass untouched.

mod kernel;
pub mod keys;
mod mtu;
mod table;
mod vni;
mod vxlan;

use std::fmt;
use std::str::FromStr;

use nsm_api::connection::Mechanism;

pub use kernel::Kernel;
pub use mtu::{MAX_MTU, MIN_MTU, Mtu, MtuError};
pub use table::{
    Payload, Row, TABLE, default_port, encrypted, is_remote, overhead, remote_for, row,
};
pub use vni::{Parity, Vni, VniError, VniPicker, vni_parity};
pub use vxlan::Vxlan;

/// `cls` of a mechanism within a node.
pub const LOCAL: &str = "LOCAL";
/// `cls` of a mechanism between nodes.
pub const REMOTE: &str = "REMOTE";

/// A mechanism's `type`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An interface of the kernel in a network namespace.
    Kernel,
    /// A shared-memory interface.
    Memif,
    /// A virtual function handed to the workload.
    Vfio,
    /// No interface at all.
    Noop,
    /// VXLAN (RFC 7348) between nodes.
    Vxlan,
    /// WireGuard between nodes.
    Wireguard,
    /// IPsec with IKEv2 between nodes.
    Ipsec,
    /// Segment routing over IPv6.
    Srv6,
    /// A VLAN of the underlay.
    Vlan,
    /// A kind that this version does not know.
    Other(String),
}

/// Every known kind with its name on the wire.
const NAMES: [(Kind, &str); 9] = [
    (Kind::Kernel, "KERNEL"),
    (Kind::Memif, "MEMIF"),
    (Kind::Vfio, "VFIO"),
    (Kind::Noop, "NOOP"),
    (Kind::Vxlan, "VXLAN"),
    (Kind::Wireguard, "WIREGUARD"),
    (Kind::Ipsec, "IPSEC"),
    (Kind::Srv6, "SRV6"),
    (Kind::Vlan, "VLAN"),
];

impl Kind {
    /// The kind with this `type`; case matters, as on the wire.
    pub fn parse(text: &str) -> Self {
        NAMES
            .into_iter()
            .find(|(_, name)| *name == text)
            .map_or_else(|| Self::Other(text.to_owned()), |(kind, _)| kind)
    }

    /// The kind of a mechanism.
    pub fn of(mechanism: &Mechanism) -> Self {
        Self::parse(&mechanism.r#type)
    }

    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Kernel => "KERNEL",
            Self::Memif => "MEMIF",
            Self::Vfio => "VFIO",
            Self::Noop => "NOOP",
            Self::Vxlan => "VXLAN",
            Self::Wireguard => "WIREGUARD",
            Self::Ipsec => "IPSEC",
            Self::Srv6 => "SRV6",
            Self::Vlan => "VLAN",
            Self::Other(name) => name,
        }
    }

    /// [`LOCAL`] or [`REMOTE`]; an unknown kind counts as local.
    pub fn class(&self) -> &'static str {
        if is_remote(self) { REMOTE } else { LOCAL }
    }

    /// A mechanism of this kind without parameters.
    pub fn mechanism(&self) -> Mechanism {
        Mechanism {
            cls: self.class().to_owned(),
            r#type: self.as_str().to_owned(),
            ..Default::default()
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A parameter whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MechanismError {
    /// The value does not parse.
    #[error("{kind} mechanism: parameter {key:?} is {value:?}: {reason}")]
    Parameter {
        /// The mechanism's kind.
        kind: Kind,
        /// The parameter's key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The mechanism is of another kind than the view.
    #[error("mechanism is {found}, {wanted} is needed here")]
    Kind {
        /// The kind found.
        found: Kind,
        /// The kind the view reads.
        wanted: Kind,
    },
}

/// Fails unless `mechanism` is of kind `wanted`.
fn expect_kind(mechanism: &Mechanism, wanted: Kind) -> Result<(), MechanismError> {
    let found = Kind::of(mechanism);
    if found == wanted {
        Ok(())
    } else {
        Err(MechanismError::Kind { found, wanted })
    }
}

/// A parameter that parses as `T`; absent and empty are `None`.
fn read<T: FromStr>(mechanism: &Mechanism, key: &'static str) -> Result<Option<T>, MechanismError>
where
    T::Err: fmt::Display,
{
    let Some(value) = mechanism.parameters.get(key).filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    value
        .parse()
        .map(Some)
        .map_err(|e| MechanismError::Parameter {
            kind: Kind::of(mechanism),
            key,
            value: value.clone(),
            reason: T::Err::to_string(&e),
        })
}

/// Sets a parameter that has a value; `None` leaves what is there.
fn write<T: fmt::Display>(mechanism: &mut Mechanism, key: &str, value: Option<&T>) {
    if let Some(value) = value {
        mechanism
            .parameters
            .insert(key.to_owned(), value.to_string());
    }
}

#[cfg(test)]
mod tests;
