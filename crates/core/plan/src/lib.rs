//! From the two sides of a connection to the desired kernel state, as data.
//!
//! A forwarder's connection has two [`Side`]s. The table in [`join`](mod@join) says how a pair of
//! sides is connected and yields a [`Plan`]: an ordered list of typed [`Resource`]s, each with an
//! identity derived from the connection's key, what it depends on and a set of owners. [`diff`] and
//! [`undo`] are written once, for every kind of resource; an executor on the floor below carries a
//! plan out.
#![forbid(unsafe_code)]

mod diff;
mod join;
mod link;
mod mac;
mod netns;
mod plan;
mod replace;
mod resource;
mod side;

pub use diff::{Changes, diff, undo};
pub use join::{JoinError, cross_connect};
pub use link::{
    ALIAS_PREFIX, End, GROUP, Link, REAP_GROUP, Tunnel, alias, alias_key, derived_index, is_ours,
};
pub use netns::{Netns, NetnsId};
pub use plan::{Entry, Plan};
pub use replace::{Swap, succeed, temporary_name};
pub use resource::{
    Address, KeyDigest, Neighbour, Resource, ResourceId, Role, Route, Sysctl, What,
};
pub use side::{KernelSide, Side, VxlanSide};

#[cfg(test)]
mod form;
#[cfg(test)]
mod takeover;
#[cfg(test)]
mod tests;
