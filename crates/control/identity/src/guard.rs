//! Tasks that end with their owner.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::task::{AbortHandle, JoinHandle};

/// Ends its task when dropped.
#[derive(Debug)]
pub struct TaskGuard(AbortHandle);

impl TaskGuard {
    /// Starts a task that lives as long as the guard.
    #[allow(
        clippy::disallowed_methods,
        reason = "the guard that is returned owns the task"
    )]
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        let task: JoinHandle<()> = tokio::spawn(future);
        Self(task.abort_handle())
    }

    /// Whether the task has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The pauses between attempts: doubled up to a cap, and jittered so that a node's processes do not
/// march in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    next: Duration,
    cap: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            next: first,
            cap,
        }
    }

    /// Half to the whole of the current step.
    pub(crate) fn step(&mut self) -> Duration {
        let mut byte = [0u8];
        // Without randomness the pause is only less spread.
        let _ = SystemRandom::new().fill(&mut byte);
        let pause = self.next / 2 + self.next * u32::from(byte[0]) / 512;
        self.next = (self.next * 2).min(self.cap);
        pause
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// Sleeps one step, but not beyond `deadline`.
    pub(crate) async fn sleep_until(&mut self, deadline: Instant) {
        let pause = self
            .step()
            .min(deadline.saturating_duration_since(Instant::now()));
        tokio::time::sleep(pause).await;
    }
}
