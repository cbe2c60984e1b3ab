//! The kernel as one forwarder process has it: its changes end with it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use nsm_forwarder::{Counters, KernelError, Namespaces};
use nsm_plan::{Changes, Entry, Plan};
use tokio::time::sleep;

use super::Kernel;
use crate::{chance::Chance, process::Process};

/// How long a deletion takes: milliseconds, as measured on Linux (design, measured facts).
const DELETION_MS: (u64, u64) = (17, 60);

/// See the module.
#[derive(Debug, Clone)]
pub struct Handle {
    kernel: Kernel,
    process: Arc<Process>,
    chance: Chance,
}

impl Handle {
    /// The kernel of a node in the hands of a process.
    #[must_use]
    pub fn new(kernel: Kernel, process: Arc<Process>, chance: Chance) -> Self {
        Self {
            kernel,
            process,
            chance,
        }
    }

    /// A change takes a moment, in which the process may end.
    async fn step(&self) {
        if self.chance.below(8) == 0 {
            sleep(Duration::from_millis(1)).await;
        } else {
            tokio::task::yield_now().await;
        }
    }

    fn take(&self, entry: &Entry) {
        let Some(number) = self.kernel.unmake(entry) else {
            return;
        };
        let kernel = self.kernel.clone();
        let wait = self.chance.millis(DELETION_MS.0, DELETION_MS.1);
        self.process.spawn(async move {
            sleep(wait).await;
            kernel.reap(number);
        });
    }
}

#[async_trait]
impl nsm_forwarder::Kernel for Handle {
    async fn apply(&self, changes: Changes, namespaces: Namespaces) -> Result<(), KernelError> {
        let plan: Plan = changes.apply.iter().cloned().collect();
        let missing = plan
            .namespaces()
            .into_iter()
            .find(|id| !namespaces.contains_key(id));
        if let Some(missing) = missing {
            let message = format!("no descriptor of namespace {missing}");
            return Err(KernelError::Refused(message));
        }
        for entry in &changes.undo {
            self.step().await;
            self.take(entry);
        }
        for (done, entry) in changes.apply.iter().enumerate() {
            self.step().await;
            if let Err(error) = self.kernel.make(entry) {
                for made in changes.apply[..done].iter().rev() {
                    self.take(made);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn undo(&self, plan: Plan) -> Result<(), KernelError> {
        self.step().await;
        for entry in plan.entries().iter().rev() {
            self.take(entry);
        }
        Ok(())
    }

    async fn stands(&self, plan: &Plan) -> Option<bool> {
        self.step().await;
        Some(self.kernel.stands(plan))
    }

    async fn counters(&self, _: &Plan) -> Vec<(&'static str, Counters)> {
        Vec::new()
    }
}
