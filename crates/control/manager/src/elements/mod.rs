//! The elements of the manager alone, with upstream's names.

mod discoverforwarder;

pub use discoverforwarder::DiscoverForwarder;
