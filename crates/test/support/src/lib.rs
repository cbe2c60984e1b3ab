//! The chain's seams in memory, for tests of elements and of whole lists.
//!
//! Each double keeps the rules of the real thing that a list can see: a token has a signer, an
//! audience and an end; a peer that is cut is unreachable and ends its streams; a descriptor
//! arrives only where it was sent. Time is the runtime's, so that a paused clock moves all of it.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod descriptors;
mod directory;
mod disk;
mod messages;
mod standing;
mod table;
mod tokens;
mod watchable;
mod wire;

pub use descriptors::{Pipe, file_of, namespace};
pub use directory::{Book, endpoint, service};
pub use disk::Disk;
pub use messages::{full_connection, full_endpoint, full_request, full_service, order, unknown};
pub use standing::{SHARED, Stands, misplaced};
pub use table::Watched;
pub use tokens::{Clock, Keys, LIFE, caller, jwt, roles, spiffe};
pub use watchable::Watchable;
pub use wire::Wire;
