//! Many seeds at once, each on a thread of its own: what they come to is told in their order, so
//! that a machine with more cores says the same, sooner.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use crate::run::{Asked, Outcome, run};

/// Runs the seeds of a range, so many at a time, and tells of each in the order of their numbers
/// until somebody has heard enough and says `false`.
pub fn each(
    seeds: Range<u64>,
    jobs: usize,
    asked: impl Fn(u64) -> Asked + Sync,
    mut tell: impl FnMut(u64, Outcome) -> bool,
) {
    let (next, enough) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    // Who is done waits until it was heard: nobody runs far ahead.
    let (send, outcomes) = mpsc::sync_channel(jobs);
    thread::scope(|scope| {
        for _ in 0..jobs {
            let send = send.clone();
            let (next, enough, asked, end) = (&next, &enough, &asked, seeds.end);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || send.send((seed, run(&asked(seed)))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let (mut early, mut due) = (BTreeMap::new(), seeds.start);
        for (seed, outcome) in &outcomes {
            early.insert(seed, outcome);
            while let Some(outcome) = early.remove(&due) {
                if !tell(due, outcome) {
                    enough.store(true, Ordering::Relaxed);
                    drop(outcomes);
                    return;
                }
                due += 1;
            }
        }
    });
}
