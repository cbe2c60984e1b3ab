//! Waiting between attempts: longer each time, never in step with others.

use std::time::Duration;

use crate::{Error, seam};

/// A peer's hint that is longer than this is not believed.
const LONGEST_HINT: Duration = Duration::from_secs(60);

/// Waits that double from the first to the longest, each shortened by a random part of up to half,
/// so that a crowd that lost the same peer does not come back at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    wait: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits from `first` to `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            wait: first,
            first,
            longest,
        }
    }

    /// How long to wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let share = seam::chance() % 512;
        let wait = self.wait - self.wait * u32::try_from(share).unwrap_or(0) / 1024;
        self.wait = (self.wait * 2).min(self.longest);
        wait
    }

    /// As [`Backoff::next_wait`], no shorter than whoever refused asks for, within a minute.
    pub fn after(&mut self, error: &Error) -> Duration {
        let asked = error.retry_after.unwrap_or_default().min(LONGEST_HINT);
        self.next_wait().max(asked)
    }

    /// Starts again with the first wait, after an attempt that worked.
    pub fn reset(&mut self) {
        self.wait = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_differ() {
        let (first, longest) = (Duration::from_millis(20), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, longest);
        let waits: Vec<_> = (0..12).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] > first / 2 && waits[0] <= first, "{waits:?}");
        assert!(waits[11] > longest / 2 && waits[11] <= longest, "{waits:?}");
        assert!(
            waits[8..].windows(2).any(|pair| pair[0] != pair[1]),
            "no jitter: {waits:?}"
        );
        backoff.reset();
        assert!(backoff.next_wait() <= first);
    }
}
