//! The kernel as one forwarder process has it: its changes end with it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use nsm_forwarder::{Counters, KernelError, Namespaces};
use nsm_kernel::{Adopted, NetnsRef};
use nsm_plan::{Changes, Entry, KeyDigest, NetnsId, Plan};
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
    /// What this process has applied or adopted.
    known: Arc<Mutex<BTreeSet<KeyDigest>>>,
}

fn place(id: NetnsId) -> NetnsRef {
    NetnsRef {
        id,
        nsid: i32::try_from(id.ino).unwrap_or(i32::MAX),
        handle: None,
    }
}

impl Handle {
    /// The kernel of a node in the hands of a process.
    #[must_use]
    pub fn new(kernel: Kernel, process: Arc<Process>, chance: Chance) -> Self {
        Self {
            kernel,
            process,
            chance,
            known: Arc::default(),
        }
    }

    fn know(&self, plan: &Plan, known: bool) {
        let mut table = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, _) in plan.links() {
            if known {
                table.insert(id.key);
            } else {
                table.remove(&id.key);
            }
        }
    }

    /// Puts right what differs.
    async fn mend(&self, plan: &Plan) -> Result<Adopted, KernelError> {
        self.step().await;
        let gone = self.kernel.lost(plan);
        if !gone.is_empty() {
            return Ok(Adopted::Gone(gone));
        }
        let mut repaired = Vec::new();
        for entry in plan.entries() {
            if !self.kernel.is_right(entry) {
                self.step().await;
                self.kernel.make(entry)?;
                repaired.push(format!("{:?}", entry.id));
            }
        }
        Ok(if repaired.is_empty() {
            Adopted::AsItWas
        } else {
            Adopted::Repaired(repaired)
        })
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
    async fn apply(
        &self,
        changes: Changes,
        namespaces: Namespaces,
    ) -> Result<Vec<NetnsRef>, KernelError> {
        let changes = changes.with_gap();
        let plan: Plan = changes.apply.iter().cloned().collect();
        let missing = plan
            .namespaces()
            .into_iter()
            .find(|id| !namespaces.contains_key(id));
        if let Some(missing) = missing {
            let message = format!("no descriptor of namespace {missing}");
            return Err(KernelError::Refused(message));
        }
        self.know(&plan, true);
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
        Ok(plan.namespaces().into_iter().map(place).collect())
    }

    async fn adopt(&self, plan: &Plan, places: &[NetnsRef]) -> Result<Adopted, KernelError> {
        let known: BTreeSet<_> = places.iter().map(|place| place.id).collect();
        if !plan.namespaces().is_subset(&known) {
            let message = "the journal lacks a namespace of the plan";
            return Err(KernelError::Refused(message.to_owned()));
        }
        self.know(plan, true);
        self.mend(plan).await
    }

    async fn repair(&self, plan: &Plan) -> Result<Adopted, KernelError> {
        self.mend(plan).await
    }

    async fn sweep(&self, mut known: BTreeSet<KeyDigest>) -> Result<usize, KernelError> {
        let graves = self.kernel.graves();
        self.step().await;
        known.extend(
            self.known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter(),
        );
        let unknown = self.kernel.unknown(&known);
        for entry in &unknown {
            self.take(entry);
        }
        for number in &graves {
            self.kernel.reap(*number);
        }
        Ok(unknown.len() + graves.len())
    }

    async fn undo(&self, plan: Plan) -> Result<(), KernelError> {
        self.step().await;
        for entry in plan.entries().iter().rev() {
            self.take(entry);
        }
        self.know(&plan, false);
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
