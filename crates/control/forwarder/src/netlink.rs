//! The kernel itself, through netlink.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use nsm_kernel::{ApplyError, Executor, NetnsError, NetnsFd};
use nsm_plan::{Changes, NetnsId, Plan};

use crate::kernel::{Counters, Kernel, KernelError, Namespaces};

/// Applies plans by netlink, on threads that may block.
#[derive(Debug, Clone)]
pub struct Netlink(Arc<Executor>);

impl Netlink {
    /// The kernel behind this executor.
    #[must_use]
    pub fn new(executor: Arc<Executor>) -> Self {
        Self(executor)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Executor) -> Result<T, KernelError> + Send + 'static,
    ) -> Result<T, KernelError> {
        let executor = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&executor))
            .await
            .unwrap_or_else(|error| {
                Err(KernelError::Refused(format!(
                    "the kernel's worker was lost: {error}"
                )))
            })
    }
}

fn told(error: ApplyError) -> KernelError {
    match error {
        ApplyError::VniInUse { vni, .. } => KernelError::VniInUse(vni),
        ApplyError::NameInUse { .. } => KernelError::NameInUse(error.to_string()),
        ApplyError::Netns(NetnsError::NotNetns { .. }) => {
            KernelError::NotANamespace(error.to_string())
        }
        other => KernelError::Refused(other.to_string()),
    }
}

fn descriptors(namespaces: &Namespaces) -> Result<BTreeMap<NetnsId, NetnsFd>, KernelError> {
    let mut opened = BTreeMap::new();
    for (id, descriptor) in namespaces {
        let copy = descriptor.try_clone().map_err(|error| {
            KernelError::Refused(format!("copying the descriptor of {id}: {error}"))
        })?;
        let netns =
            NetnsFd::new(copy).map_err(|error| KernelError::NotANamespace(error.to_string()))?;
        opened.insert(*id, netns);
    }
    Ok(opened)
}

#[async_trait]
impl Kernel for Netlink {
    async fn apply(&self, changes: Changes, namespaces: Namespaces) -> Result<(), KernelError> {
        self.blocking(move |executor| {
            let opened = descriptors(&namespaces)?;
            executor.change(&changes, &opened).map(drop).map_err(told)
        })
        .await
    }

    async fn undo(&self, plan: Plan) -> Result<(), KernelError> {
        self.blocking(move |executor| executor.undo(&plan).map_err(told))
            .await
    }

    async fn counters(&self, _plan: &Plan) -> Vec<Counters> {
        Vec::new()
    }
}
