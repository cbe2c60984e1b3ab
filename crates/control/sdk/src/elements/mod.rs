//! The elements of clients and endpoints, with upstream's names.

mod dnscontext;
mod heal;
mod ipam;
mod mechanisms;
mod passthrough;
mod refresh;
mod sendfd;
mod tomanager;

pub use dnscontext::DnsContext;
pub use heal::Heal;
pub use ipam::{Ipam, Prefixes};
pub use mechanisms::Mechanisms;
pub use passthrough::{Joined, Joiner, Passthrough};
pub use refresh::Refresh;
pub use sendfd::SendFd;
pub use tomanager::ToManager;
