//! Who may do what: the standard policies, an operator's own, roles, and what a denial says.
//!
//! - [`standard`]: the seven policies of the Go implementation as functions of a path, a peer's
//!   certificate and a time.
//!
//! Nothing here knows gRPC or a chain: `nsm-chain`'s elements and the registry ask, and answer the
//! caller.

#![forbid(unsafe_code)]

pub mod standard;
