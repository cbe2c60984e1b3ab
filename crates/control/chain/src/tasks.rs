//! Background work with an owner.

use std::{future::Future, time::Duration};

use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::seam;

/// The background tasks of one owner: they end when it does.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// A new owner without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tracker: TaskTracker::new(),
            cancel: CancellationToken::new(),
        }
    }

    /// Runs a task until it ends or its owner does.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.finish(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Runs a task that is finished even when its owner ends; [`Tasks::shutdown`] waits for it.
    pub fn finish(&self, task: impl Future<Output = ()> + Send + 'static) {
        seam::spawn(&self.tracker, task);
    }

    /// Ends with its owner.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// A guard that ends the tasks when it is dropped.
    #[must_use]
    pub fn guard(&self) -> DropGuard {
        self.cancel.clone().drop_guard()
    }

    /// Tells every task to end and waits for them, no longer than `patience`.
    pub async fn shutdown(&self, patience: Duration) {
        self.cancel.cancel();
        self.tracker.close();
        if tokio::time::timeout(patience, self.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                tasks = self.tracker.len(),
                "tasks still run after {patience:?}"
            );
        }
    }

    /// How many tasks run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }
}
