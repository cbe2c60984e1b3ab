//! The elements of the manager alone, with upstream's names.

mod discoverforwarder;
mod drain;
mod localbypass;
mod recvfd;
mod toregistry;

pub use discoverforwarder::DiscoverForwarder;
pub use drain::{DRAINING, Drain, Drained};
pub use localbypass::{Forwarders, LocalBypass};
pub use recvfd::RecvFd;
pub use toregistry::ToRegistry;
