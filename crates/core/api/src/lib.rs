//! The Network Service Mesh wire messages (packages `networkservice`, `connection`,
//! `connectioncontext`, `registry`, `ipam`), generated from `proto/` by `cargo run -p nsm-codegen`.
//! Fields that this version does not know stay in each message and are written again.

#![forbid(unsafe_code)]

#[rustfmt::skip]
#[allow(warnings, clippy::all)]
mod generated;

pub use generated::{connection, connectioncontext, ipam, networkservice, registry};
