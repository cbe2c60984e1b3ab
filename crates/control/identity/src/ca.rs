//! The built-in authority: SPIFFE identities for machines without SPIRE.
//!
//! A [`Root`] signs intermediates, one per node; an operator lets a node in with a one-time
//! [`JoinToken`] over the [`AuthorityServer`]. The [`Node`] signs its workloads' SVIDs and serves
//! them over the SPIFFE Workload API ([`WorkloadServer`]) to processes that match an [`Entry`]. On
//! a laptop and in a lab one process is both: [`Node::local`].

mod attest;
mod authority;
pub(crate) mod decoders;
mod dir;
mod entries;
mod error;
mod incoming;
mod issue;
mod join;
mod join_token;
mod jwt;
mod node;
mod pem;
mod root;
mod serve;
mod workload;

pub use attest::{AttestError, Caller, Facts};
pub use authority::AuthorityServer;
pub use dir::DirError;
pub use entries::{Entries, EntriesError, Entry, EntrySource, NoMatch, Selectors};
pub use error::CaError;
pub use join::JoinConfig;
pub use join_token::{Fingerprint, JOIN_TOKEN_LIFE, JoinToken, JoinTokenError};
pub use jwt::{JWT_LIFE, JwtError};
pub use node::Node;
pub use root::{INTERMEDIATE_LIFE, Root};
pub use serve::{DEFAULT_SVID_LIFE, WorkloadServer};
