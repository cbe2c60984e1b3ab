//! The mesh in virtual time.
//!
//! The real registry, managers, forwarders, endpoints and clients run in one thread, over a wire
//! and kernels in memory, under a clock that is turned on when everybody waits. Everything that
//! could be otherwise follows from one seed: two runs of it are the same to the last line. Faults
//! strike and pass; a small reference says at every step what must hold, and at the end what must
//! be left.

#![forbid(unsafe_code)]

pub mod chance;
pub mod check;
pub mod clock;
pub mod disk;
pub mod journal;
pub mod kernel;
pub mod keys;
pub mod log;
pub mod namespaces;
pub mod net;
pub mod packets;
pub mod process;
pub mod roles;
pub mod run;
pub mod seeds;
pub mod story;
pub mod ways;
pub mod world;
