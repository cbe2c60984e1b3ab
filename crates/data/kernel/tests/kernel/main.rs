//! The crate on the real kernel, rootless: every test has user, network and mount namespaces of its
//! own.
#![allow(
    unsafe_code,
    reason = "a test re-executes itself in namespaces of its own"
)]
#![allow(clippy::unwrap_used, reason = "a failing step fails the test")]

mod adopt;
mod bridges;
mod close;
mod connect;
mod crash;
mod listen;
mod refuse;
mod support;
mod sweep;
mod takeover;
mod tunnels;
