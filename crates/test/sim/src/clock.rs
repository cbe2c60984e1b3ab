//! Wall clocks that disagree: each node has its own, and nobody's jumps by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// When every run begins: seconds since 1970.
const START: Duration = Duration::from_secs(1_700_000_000);

/// The wall clock of a node; a clone is the same one.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    /// How far it is ahead of the true time, milliseconds.
    ahead: AtomicI64,
}

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(Inner {
            began: Instant::now(),
            ahead: AtomicI64::new(0),
        }))
    }
}

impl Clock {
    /// Moves it by so many milliseconds.
    pub fn step(&self, by: i64) {
        self.0.ahead.fetch_add(by, Ordering::Relaxed);
    }

    /// Sets it right.
    pub fn correct(&self) {
        self.0.ahead.store(0, Ordering::Relaxed);
    }

    /// What it says.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        let truth = UNIX_EPOCH + START + self.0.began.elapsed();
        let ahead = self.0.ahead.load(Ordering::Relaxed);
        let by = Duration::from_millis(ahead.unsigned_abs());
        if ahead < 0 { truth - by } else { truth + by }
    }
}

impl nsm_registry::Clock for Clock {
    fn now(&self) -> SystemTime {
        Self::now(self)
    }
}
