//! What the fuzz targets do with their bytes.
//!
//! Each target is one function over bytes. It decodes them as the product does and checks what has
//! to hold of whatever comes out: what is printed is read back as the same, limits hold, values
//! keep the promises of their types, nothing that is not signed is believed. A broken promise is a
//! panic. libFuzzer calls them from `fuzz/`; `tests/replay.rs` runs them over the corpora.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a target stops where a promise is broken"
)]

mod authority;
mod certificate;
mod chunks;
mod connection;
mod files;
pub mod fixtures;
mod kernel;
mod mechanism;
mod metadata;
mod names;
mod nsurl;
mod registry;
mod roles;
mod token;
mod workload;
mod yaml;

pub use authority::authority;
pub use certificate::certificate;
pub use chunks::{chunks, join};
pub use connection::connection;
pub use files::ca_files;
pub use kernel::{netlink, nftables};
pub use mechanism::mechanism;
pub use metadata::metadata;
pub use names::names;
pub use nsurl::nsurl;
pub use registry::registry;
pub use roles::yaml_roles;
pub use token::token;
pub use workload::workload_api;
pub use yaml::{yaml_filter, yaml_service};

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its program, and of its folder under `fuzz/corpus`.
    pub name: &'static str,
    /// What it does with its bytes; panics where a promise is broken.
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// Every target.
pub const TARGETS: &[Target] = &[
    target("authority", authority),
    target("ca_files", ca_files),
    target("certificate", certificate),
    target("connection", connection),
    target("mechanism", mechanism),
    target("metadata", metadata),
    target("names", names),
    target("netlink", netlink),
    target("nftables", nftables),
    target("nsurl", nsurl),
    target("registry", registry),
    target("token", token),
    target("workload_api", workload_api),
    target("yaml_filter", yaml_filter),
    target("yaml_roles", yaml_roles),
    target("yaml_service", yaml_service),
];

/// The bytes as text; targets of text have nothing to do with others.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}
