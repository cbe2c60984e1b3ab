//! What services and endpoints exist: stored, indexed, watched.
//!
//! [`store`] keeps records, [`index`] finds them, [`watch`] tells of changes, [`Registry`] decides
//! who may register what.

#![forbid(unsafe_code)]

mod clock;
pub mod index;
pub mod record;
mod registry;
pub mod store;
pub mod watch;

pub use clock::{Clock, SystemClock};
pub use record::Record;
pub use registry::{Config, MAX_RECORDS, Registry, Verdict, Views};
