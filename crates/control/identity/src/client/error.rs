//! Why a process has no identity.

use std::time::Duration;

use crate::address::{AddressError, AgentAddress};

/// Why no identity was had.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody there.
    #[error(
        "cannot reach the SPIFFE agent at {address}: {reason}; start it, or correct SPIFFE_ENDPOINT_SOCKET"
    )]
    Unreachable {
        /// Where.
        address: AgentAddress,
        /// From the system.
        reason: String,
    },
    /// The agent does not know this process.
    #[error(
        "the SPIFFE agent at {address} has no identity for this process: {reason}; add an entry whose selectors match it (uid {uid}, pid {pid})"
    )]
    Refused {
        /// Where.
        address: AgentAddress,
        /// The agent's words.
        reason: String,
        /// Of this process.
        uid: u32,
        /// Of this process.
        pid: u32,
    },
    /// Another gRPC error.
    #[error("the SPIFFE agent at {address} failed: {reason}")]
    Agent {
        /// Where.
        address: AgentAddress,
        /// The agent's words.
        reason: String,
    },
    /// What it sent is unusable.
    #[error("the SPIFFE agent at {address} sent an unusable SVID: {reason}")]
    Svid {
        /// Where.
        address: AgentAddress,
        /// What is wrong.
        reason: String,
    },
    /// Nothing within the start-up deadline.
    #[error("no identity after {waited:?}: {last}")]
    Startup {
        /// How long.
        waited: Duration,
        /// The last attempt.
        last: Box<WorkloadError>,
    },
}
