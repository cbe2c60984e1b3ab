//! gRPC over unix sockets and TCP with mTLS, descriptors and tokens.

#![forbid(unsafe_code)]

/// The gRPC stubs of the NSM services, generated from `proto/` by `cargo run -p nsm-codegen`.
#[rustfmt::skip]
#[allow(warnings, clippy::all)]
pub mod generated {
    pub mod endpoint_registry;
    pub mod ipam;
    pub mod monitor_connection;
    pub mod network_service;
    pub mod service_registry;
}
