//! Chains of elements: how a role handles a request and its close.
//!
//! A role is one list of [`Element`]s in request order. A request goes down the list and its
//! answer comes back up; a close does the same. What an element must remember of a connection
//! lives in the connection's own [`Store`], which dies with it.

#![forbid(unsafe_code)]

mod backoff;
pub mod begin;
mod behind;
mod call;
mod chain;
mod directory;
mod downstream;
pub mod elements;
mod error;
mod expected;
pub mod follow;
pub mod journal;
mod kind;
pub mod kit;
mod owed;
pub mod seam;
mod store;
mod suspension;
mod tasks;
mod tokens;
mod transport;

pub use backoff::Backoff;
pub use call::{Call, Caller, Own, Token};
pub use chain::{Chain, Element, Next};
pub use directory::{Directory, Registrar};
pub use error::{Blame, Code, Error};
pub use expected::Expected;
pub use journal::{Journal, Noted, Record, Restored, Written, message, restore};
pub use kind::{Connections, Endpoints, Kind, Services};
pub use store::{Kept, Notes, Store};
pub use tasks::Tasks;
pub use tokens::Tokens;
pub use transport::{Descriptors, Events, Hop, Target, Transport};
