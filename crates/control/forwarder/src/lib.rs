//! The forwarder: selects the endpoint, plans and makes interfaces.
//!
//! One privileged process a node. A request passes its list ([`role`]) down to the endpoint's side;
//! on the way back the two sides become a plan, and the plan becomes kernel state ([`Kernel`]).

#![forbid(unsafe_code)]

pub mod elements;
mod kernel;
mod leftover;
mod lives;
mod moves;
mod netlink;
mod probe;
mod role;
mod sides;
mod underlay;
mod vnis;
mod watch;

pub use kernel::{Counters, Kernel, KernelError, Namespaces};
pub use lives::{Live, Lives};
pub use netlink::Netlink;
pub use nsm_kernel::{Adopted, NetnsHandle, NetnsRef};
pub use probe::{EVERY, MISSES, Probe, WAIT};
pub use role::{Config, Forwarder, Parts, Whole};
pub use sides::{End, Tunnel, kernel_side};
pub use underlay::Underlay;
pub use vnis::Vnis;
pub use watch::Gone;
