//! Namespaces, links, addresses, routes and packet filters by netlink.
//!
//! Everything here blocks and belongs on a thread that may block. What happens inside a workload's
//! namespace is done by a few threads of our own ([`netns::Workers`]), never on a caller's thread;
//! no descriptor of a workload's namespace is kept after a call.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's messages and attributes are open enumerations"
)]
#![allow(
    unsafe_code,
    reason = "system calls that no safe crate offers; each block argues its safety"
)]

mod adopted;
mod anchor;
pub mod arrivals;
mod birth;
pub mod bridge;
mod contents;
#[doc(hidden)]
pub mod decoders;
pub mod echo;
pub mod error;
pub mod events;
pub mod executor;
pub mod filter;
pub mod handle;
mod have;
mod known;
mod mend;
mod messages;
pub mod netlink;
pub mod netns;
mod nsid;
pub mod owner;
mod ready;
pub mod reaper;
mod session;
pub mod setup;
pub mod stats;
mod steps;
mod sweep;
mod takeover;
pub mod underlay;
mod undo;

pub use adopted::Adopted;
pub use error::{ApplyError, KernelError, NetnsError};
pub use executor::{Applied, Executor};
pub use handle::{NetnsHandle, NetnsRef};
pub use netns::{NetnsFd, Workers};
pub use owner::{Claim, Mark};
pub use reaper::Reaper;
pub use steps::Steps;
