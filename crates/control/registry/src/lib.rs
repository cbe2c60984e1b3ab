//! What services and endpoints exist: stored, indexed, watched.
//!
//! [`store`] keeps records, [`index`] finds them, [`watch`] tells of changes, [`Registry`] decides
//! who may register what, [`chain`] is the role, [`serve`] its gRPC services, [`mirror`] a copy of
//! it in the processes that ask it.

#![forbid(unsafe_code)]

pub mod chain;
mod clock;
pub mod index;
pub mod mirror;
pub mod record;
mod registry;
pub mod remote;
pub mod serve;
pub mod store;
pub mod watch;

pub use clock::{Clock, SystemClock};
pub use record::Record;
pub use registry::{Config, MAX_RECORDS, Marks, Registry, Verdict, Views};
