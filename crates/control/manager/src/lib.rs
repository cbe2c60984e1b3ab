//! The manager: one per node, the door of its clients and endpoints.
//!
//! Clients ask it for connections, endpoints and forwarders register with it, other managers reach
//! its node through it. It holds no capability and makes no interface.

#![forbid(unsafe_code)]

mod directory;
pub mod elements;
mod finder;
mod locals;
mod role;
mod watching;

pub use directory::View;
pub use finder::Finder;
pub use locals::{Local, Locals};
pub use role::{Config, Journals, Known, Manager, Parts, Seams, connections, endpoints, services};
