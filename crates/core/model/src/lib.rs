//! The law of the mesh as pure types: connections and their paths, mechanisms, labels, endpoint
//! selection, service documents and address allocation.
//!
//! Nothing here reads a clock, an environment, a socket or a random source: those are arguments.
//! The wire messages of `nsm-api` are the state; this crate reads typed views out of them and
//! writes back only what it owns, so unknown fields and parameters survive.

#![forbid(unsafe_code)]

pub mod context;
pub mod filter;
pub mod ids;
pub mod ifname;
pub mod ipam;
pub mod labels;
pub mod mechanism;
pub mod name;
pub mod nsurl;
pub mod path;
pub mod roles;
pub mod select;
pub mod service;
pub mod spiffe;
pub mod url;
pub mod yaml;
