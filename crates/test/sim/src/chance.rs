//! Chance of one run: everything that could be otherwise is decided here, from the seed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A source of numbers that follow from a seed; a clone is the same one.
#[derive(Debug, Clone)]
pub struct Chance(Arc<Mutex<u64>>);

impl Chance {
    /// The numbers of a seed, and of one use of it: two uses do not disturb each other.
    #[must_use]
    pub fn new(seed: u64, using: u64) -> Self {
        // Mixed, or the numbers of the next seed were the same ones, one later.
        let begin = mix(mix(seed).wrapping_add(using));
        Self(Arc::new(Mutex::new(begin)))
    }

    /// The next number: SplitMix64 (Steele, Lea, Flood 2014).
    #[must_use]
    pub fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(*state)
    }

    /// A number below `end`; 0 where that is 0.
    #[must_use]
    pub fn below(&self, end: usize) -> usize {
        let end = end as u64;
        usize::try_from(self.next() % end.max(1)).unwrap_or(0)
    }

    /// A number from `first` to `last`.
    #[must_use]
    pub fn between(&self, first: u64, last: u64) -> u64 {
        first + self.next() % (last - first + 1)
    }

    /// True `share` times in a thousand.
    #[must_use]
    pub fn per_mille(&self, share: u64) -> bool {
        self.next() % 1000 < share
    }

    /// Milliseconds from `first` to `last`.
    #[must_use]
    pub fn millis(&self, first: u64, last: u64) -> Duration {
        Duration::from_millis(self.between(first, last))
    }

    /// One of these.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn one<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
