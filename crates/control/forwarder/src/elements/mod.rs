//! The elements of the forwarder alone, with upstream's names.

mod discover;
mod mechanisms;
mod mechanismtranslation;
mod roundrobin;
mod xconnect;

pub use discover::{Candidates, Discover};
pub use mechanisms::{Mechanisms, Near, NearSide};
pub use mechanismtranslation::{Far, MechanismTranslation, Policy};
pub use roundrobin::RoundRobin;
pub use xconnect::Xconnect;

pub(crate) use discover::Chosen;
