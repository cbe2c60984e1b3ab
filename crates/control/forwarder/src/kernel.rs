//! The kernel, as the forwarder needs it: the seam with two implementations, netlink and a model.

use std::{collections::BTreeMap, os::fd::OwnedFd, sync::Arc};

use async_trait::async_trait;
use nsm_model::mechanism::Vni;
use nsm_plan::{Changes, NetnsId, Plan};

/// Descriptors of the namespaces that a plan speaks of.
pub type Namespaces = BTreeMap<NetnsId, Arc<OwnedFd>>;

/// Why a plan could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// Another device of this node has that VNI and port.
    #[error("VNI {0} is in use on this node; another one must be chosen")]
    VniInUse(Vni),
    /// Somebody else's interface has the name.
    #[error("{0}")]
    NameInUse(String),
    /// The descriptor that came is none of a network namespace.
    #[error("{0}")]
    NotANamespace(String),
    /// Anything else that the kernel refused.
    #[error("{0}")]
    Refused(String),
}

/// What a link has carried, as its namespace sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets dropped either way.
    pub drops: u64,
}

/// Applies plans to a kernel. A change is all or nothing: what failed is undone before the error.
#[async_trait]
pub trait Kernel: Send + Sync {
    /// Makes the changes.
    ///
    /// # Errors
    /// What the kernel refused; nothing of these changes is left.
    async fn apply(&self, changes: Changes, namespaces: Namespaces) -> Result<(), KernelError>;

    /// Takes back all of a plan; what is gone already is no error.
    ///
    /// # Errors
    /// What could not be taken back.
    async fn undo(&self, plan: Plan) -> Result<(), KernelError>;

    /// Whether every link of a plan is there and up; `None` when the kernel could not be asked.
    async fn stands(&self, plan: &Plan) -> Option<bool>;

    /// What the links of a plan have carried: `client` or `server` (upstream's words for the side
    /// of whoever asked and of the endpoint), and its counters, for each end that is on this node.
    async fn counters(&self, plan: &Plan) -> Vec<(&'static str, Counters)>;
}
