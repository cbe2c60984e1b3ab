//! What a simulator puts in the runtime's place on its thread: who runs the tasks, and what chance
//! says.
//!
//! A role in production never comes here: its tasks run where the runtime puts them, and chance is
//! the system's. In the simulator a task belongs to the process that began it and ends with that
//! process, at whichever await it stands, and chance follows from the run's seed.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    hash::{BuildHasher as _, RandomState},
    pin::Pin,
    sync::Arc,
};

use tokio_util::task::TaskTracker;

/// Runs tasks in the runtime's place.
pub trait Spawner: Send + Sync {
    /// Runs a task to its end, or to the end of the process that began it.
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>);
}

thread_local! {
    static SPAWNER: RefCell<Option<Arc<dyn Spawner>>> = const { RefCell::new(None) };
    static CHANCE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on this thread's tasks run there.
pub fn spawn_through(spawner: Arc<dyn Spawner>) {
    SPAWNER.set(Some(spawner));
}

/// From now on this thread's chance follows from a seed.
pub fn seed(seed: u64) {
    CHANCE.set(Some(seed));
}

pub(crate) fn spawn(tracker: &TaskTracker, task: impl Future<Output = ()> + Send + 'static) {
    let spawner = SPAWNER.with_borrow(Clone::clone);
    match spawner {
        Some(spawner) => spawner.spawn(Box::pin(tracker.track_future(task))),
        None => drop(tracker.spawn(task)),
    }
}

/// Any number, for waits and choices that must not be in step with others. Never for a key, an id
/// or a token: it is none that nobody can guess.
#[must_use]
pub fn chance() -> u64 {
    let Some(state) = CHANCE.get() else {
        return RandomState::new().hash_one(0_u64);
    };
    // SplitMix64 (Steele, Lea, Flood 2014): every seed gives another sequence of full length.
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    CHANCE.set(Some(state));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_what_chance_says() {
        let system = [chance(), chance()];
        assert_ne!(system[0], system[1]);
        let said = |begin| {
            seed(begin);
            [chance(), chance(), chance()]
        };
        assert_eq!(said(7), said(7));
        assert_ne!(said(7), said(8));
    }
}
