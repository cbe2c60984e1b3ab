//! Who may do what: the standard policies, an operator's own, roles, and what a denial says.
//!
//! - [`standard`]: the seven policies of the Go implementation as functions of a path, a peer's
//!   certificate and a time.
//! - [`custom`]: an operator's own policies, files in Rego; run with the feature `opa`.
//! - [`proof`]: what a server and a client require of a path: the standard policies and more.
//! - [`roles`]: who is what by SPIFFE ID, and who may call whom.
//! - [`denial`]: what is written and counted of every denial.
//!
//! Nothing here knows gRPC or a chain: `nsm-chain`'s elements and the registry ask, and answer the
//! caller.

#![forbid(unsafe_code)]

pub mod custom;
pub mod denial;
pub mod input;
pub mod mask;
pub mod proof;
#[cfg(feature = "opa")]
mod rego;
pub mod roles;
pub mod standard;
