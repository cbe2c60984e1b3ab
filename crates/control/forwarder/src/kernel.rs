//! The kernel, as the forwarder needs it: the seam with two implementations, netlink and a model.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    sync::Arc,
};

use async_trait::async_trait;
use nsm_kernel::{Adopted, NetnsRef};
use nsm_model::mechanism::Vni;
use nsm_plan::{Changes, KeyDigest, NetnsId, Plan};

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

/// Applies plans to a kernel, which outlives the forwarder. What it remembers itself (which
/// namespaces are where) dies with the forwarder and comes back by [`adopt`](Self::adopt).
///
/// A model of it has to: keep links by namespace with index, name, alias, group, kind and MTU, and
/// what fills them; keep a namespace's identity and file handle apart from its life, so that a
/// place of a namespace that was deleted and made again under the same name is gone; let go of
/// everything in a namespace with it, and of the other end of a pair too; take a VNI and port once
/// a node; die at any await of a change with any part of its steps done.
#[async_trait]
pub trait Kernel: Send + Sync {
    /// Makes the changes: all or nothing, what failed is undone before the error. What is there
    /// already of a plan with the same key is taken over, and what is in its way replaced: this is
    /// also what is called after a crash in the middle of the same changes. An interface that takes
    /// over from another does so without a gap; a model that carries no packets may make the same
    /// changes [with one](Changes::with_gap).
    ///
    /// Returns the namespaces that it worked in, with what finds each of them again after a
    /// restart; those that only an earlier change of the same plan touched are not in it.
    ///
    /// # Errors
    /// What the kernel refused; nothing of these changes is left.
    async fn apply(
        &self,
        changes: Changes,
        namespaces: Namespaces,
    ) -> Result<Vec<NetnsRef>, KernelError>;

    /// Takes back all of a plan; what is gone already is no error.
    ///
    /// # Errors
    /// What could not be taken back.
    async fn undo(&self, plan: Plan) -> Result<(), KernelError>;

    /// After the forwarder's restart: takes over what stands of a plan that its journal confirms.
    /// `places` are the namespaces of the plan as [`apply`](Self::apply) gave them; from now on
    /// `undo`, `stands`, `counters` and `repair` know them.
    ///
    /// A namespace is the same one if its device and inode are, and its file handle (where the
    /// kernel gives handles: else its number) still leads there. A link in it is the plan's if its
    /// kind, group and alias are, and its index is one that `apply` could have given it. Nothing
    /// else is ever touched, whatever it is called. Of what is the plan's, what is right is left
    /// alone, packets flow on, and what differs is put right: a link down, renamed, with another
    /// MTU or without alias; an address, route, neighbour or kernel parameter that is missing or
    /// changed. A link that is gone is made again, in its place in every namespace. What a workload
    /// has added of its own (another address, another route) stays.
    ///
    /// # Errors
    /// What the kernel refused; the plan is known all the same, and may stand in part.
    async fn adopt(&self, plan: &Plan, places: &[NetnsRef]) -> Result<Adopted, KernelError>;

    /// Puts right what differs from a plan that was applied or adopted, as `adopt` does.
    ///
    /// # Errors
    /// What the kernel refused; the plan may stand in part.
    async fn repair(&self, plan: &Plan) -> Result<Adopted, KernelError>;

    /// Deletes what nobody owns, in the node's namespace and in every one that has a number there:
    /// links in our group, or with an alias of ours, that belong to none of the plans with these
    /// keys and to none that was applied or adopted; links born and never finished; links that wait
    /// for their deletion. Returns how many links that were. Changes that run meanwhile are safe.
    ///
    /// A workload can forge group and alias in its own namespace. A forged link that names a key
    /// which the workload has no plan of, or names its own plan but has another index or kind, is
    /// nobody's, and is deleted: the workload did that to itself. Links of other namespaces, and
    /// links without our group and alias, are never touched.
    ///
    /// # Errors
    /// What the kernel refused; the rest is swept.
    async fn sweep(&self, known: BTreeSet<KeyDigest>) -> Result<usize, KernelError>;

    /// Links that a forwarder of our name made before, of connections that are neither among these
    /// nor applied or adopted: how many there are. Nothing is touched.
    ///
    /// # Errors
    /// What the kernel refused.
    async fn unknown(&self, _known: BTreeSet<KeyDigest>) -> Result<usize, KernelError> {
        Ok(0)
    }

    /// Whether links that are made or repaired from now on say that they are ours to sweep.
    fn mark(&self, _on: bool) {}

    /// Whether every link of a plan is there and up; `None` when the kernel could not be asked.
    async fn stands(&self, plan: &Plan) -> Option<bool>;

    /// What the links of a plan have carried: `client` or `server` (upstream's words for the side
    /// of whoever asked and of the endpoint), and its counters, for each end that is on this node.
    async fn counters(&self, plan: &Plan) -> Vec<(&'static str, Counters)>;
}
