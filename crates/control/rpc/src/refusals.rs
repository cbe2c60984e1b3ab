//! What the log hears of handshakes that failed: each one, until there are too many.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nsm_chain::Tasks;

/// Lines in each [`SPAN`]: an operator reads no more, and whoever knocks at the door must not be
/// able to fill a disk.
const LINES: u32 = 10;
const SPAN: Duration = Duration::from_secs(1);

/// See the module; one for each listening socket.
#[derive(Debug, Clone)]
pub(crate) struct Refusals {
    count: Arc<Mutex<Count>>,
    tasks: Tasks,
}

/// Of the span that began with the first one.
#[derive(Debug, Default)]
struct Count {
    said: u32,
    unsaid: u64,
}

impl Refusals {
    pub(crate) fn new(tasks: Tasks) -> Self {
        Self {
            count: Arc::default(),
            tasks,
        }
    }

    /// Says it, or counts it: at the end of the span the count is said.
    pub(crate) fn tell(&self, address: &str, say: impl FnOnce()) {
        let mut count = self.count();
        if count.said == 0 {
            let (refusals, address) = (self.clone(), address.to_owned());
            self.tasks.spawn(async move {
                tokio::time::sleep(SPAN).await;
                let Count { unsaid, .. } = std::mem::take(&mut *refusals.count());
                if unsaid > 0 {
                    tracing::warn!(
                        address,
                        unsaid,
                        "more handshakes failed within a second, the last of them there"
                    );
                }
            });
        }
        if count.said < LINES {
            count.said += 1;
            drop(count);
            say();
        } else {
            count.unsaid += 1;
        }
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_lines_a_second() {
        let refusals = Refusals::new(Tasks::new());
        let said = AtomicU32::new(0);
        let many = |times: u32| {
            for _ in 0..times {
                refusals.tell("here", || {
                    said.fetch_add(1, Ordering::Relaxed);
                });
            }
        };
        many(200);
        assert_eq!(said.load(Ordering::Relaxed), LINES);
        assert_eq!(refusals.count().unsaid, u64::from(200 - LINES));
        tokio::time::sleep(SPAN * 2).await;
        assert_eq!(refusals.count().unsaid, 0);
        many(3);
        assert_eq!(said.load(Ordering::Relaxed), LINES + 3);
    }
}
