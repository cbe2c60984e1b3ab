//! SPIFFE identities: Workload API, built-in authority, TLS verification.
//!
//! A process gets its [`Identity`] from a SPIFFE agent by [`Workload`] and holds it as an
//! [`IdentitySource`], which follows rotations. [`tls`] and [`token`] prove it to others and check
//! theirs. [`ca`] is the agent and the authority for machines that have none; tests make identities
//! with [`ca::Root::generate`].

#![forbid(unsafe_code)]

pub mod address;
pub mod ca;
pub mod client;
pub mod codec;
#[doc(hidden)]
pub mod decoders;
mod guard;
pub mod identity;
pub mod sockfile;
pub mod svid;
mod time;
pub mod tls;
pub mod token;
pub mod token_cache;

pub use client::{Workload, WorkloadError};
pub use guard::TaskGuard;
pub use identity::{Bundles, Identity, IdentityPublisher, IdentitySource};

#[rustfmt::skip]
#[allow(warnings, clippy::all)]
mod generated;

#[rustfmt::skip]
#[allow(warnings, clippy::all)]
#[path = "generated/workload_api.rs"]
mod workload_stub;

#[rustfmt::skip]
#[allow(warnings, clippy::all)]
#[path = "generated/authority_stub.rs"]
mod authority_stub;

pub use generated::nsm::authority as authority_api;

/// The SPIFFE Workload API: messages and stubs.
pub mod workload {
    pub use crate::generated::*;
    pub use crate::workload_stub::{
        spiffe_workload_a_p_i_client as client, spiffe_workload_a_p_i_server as server,
    };
}
