//! gRPC over unix sockets and TCP with mTLS, descriptors and tokens.
//!
//! A role binds a [`Listener`], collects its services in a [`Server`] and serves them; it calls
//! others through a [`Pool`] with the functions of [`client`]. Who is on the other side is a
//! [`Peer`] in both directions. There is no way around mutual TLS.

#![forbid(unsafe_code)]

mod accept;
mod adapt;
pub mod client;
mod dial;
mod fdstream;
mod fdtable;
mod handshakes;
pub mod health;
mod hop;
mod link;
mod listen;
pub mod meta;
pub mod monitor;
mod peer;
mod pool;
mod refusals;
mod registered;
pub mod seen;
mod server;
pub mod several;
pub mod skew;
mod socket;
pub mod status;
mod tokens;

/// The gRPC stubs of the NSM services, generated from `proto/` by `cargo run -p nsm-codegen`.
#[rustfmt::skip]
#[allow(warnings, clippy::all)]
pub mod generated {
    pub mod endpoint_registry;
    pub mod ipam;
    pub mod monitor_connection;
    pub mod network_service;
    pub mod service_registry;
}

pub use accept::HANDSHAKE_TIMEOUT;
pub use fdstream::{FdStream, MAX_PER_WRITE};
pub use fdtable::{
    CLAIMED_FOR, DescriptorError, Descriptors, HELD_FOR, MAX_HELD, MAX_QUEUED, MAX_WAITERS,
    inode_url,
};
pub use handshakes::MAX_HANDSHAKES;
pub use hop::{Hop, Transport};
pub use link::{AnswerBody, Channel, PeerHandle, origin};
pub use listen::{ListenError, Listener, MAX_STREAMS, SHUTDOWN_GRACE};
pub use peer::Peer;
pub use pool::{DIAL_TIMEOUT, IDLE_AFTER, MAX_LINKS, Pool};
pub use server::{Answers, Find, Lookup, Monitor, Server, call_of};
pub use tokens::TokenSource;
