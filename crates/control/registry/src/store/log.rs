//! The last changes in order, and whoever follows them: shared by the stores of this process.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{Change, StoreError};

/// How many changes are remembered for watches from an earlier revision, and how far a watcher may
/// fall behind: some seconds of the fastest writers, at about 500 bytes a change.
pub const HISTORY: usize = 8192;

/// How long: whoever has listed follows at once, and so does one that fell behind, after it has
/// listed again.
const REMEMBERED: Duration = Duration::from_secs(30);

/// How many followers one store has at most: the registry needs two, one a kind.
const MAX_WATCHES: usize = 64;

/// The changes below a prefix, in order.
#[derive(Debug)]
pub struct Watch {
    replay: VecDeque<Change>,
    live: mpsc::Receiver<Change>,
    end: Arc<OnceLock<StoreError>>,
}

/// Changes of one store: published in the order of their revisions.
#[derive(Debug)]
pub(super) struct Log(Mutex<State>);

#[derive(Debug)]
struct State {
    history: VecDeque<(Instant, Change)>,
    /// Every change after this revision is in `history`.
    oldest: u64,
    followers: Vec<Follower>,
}

#[derive(Debug)]
struct Follower {
    prefix: String,
    after: u64,
    live: mpsc::Sender<Change>,
    end: Arc<OnceLock<StoreError>>,
}

// === impl Watch ===

impl Watch {
    /// A watch that somebody else feeds: its changes, and why they end.
    #[cfg(feature = "etcd")]
    pub(super) fn fed(live: mpsc::Receiver<Change>, end: Arc<OnceLock<StoreError>>) -> Self {
        Self {
            replay: VecDeque::new(),
            live,
            end,
        }
    }

    /// The next change.
    ///
    /// # Errors
    /// [`StoreError::Lagged`] if this watcher fell behind, [`StoreError::Closed`] at the end.
    pub async fn next(&mut self) -> Result<Change, StoreError> {
        if let Some(change) = self.replay.pop_front() {
            return Ok(change);
        }
        self.live
            .recv()
            .await
            .ok_or_else(|| self.end.get().cloned().unwrap_or(StoreError::Closed))
    }

    /// At least one change and those that are there already, `most` in all.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn next_batch(&mut self, most: usize) -> Result<Vec<Change>, StoreError> {
        let mut batch = vec![self.next().await?];
        while batch.len() < most {
            let change = self
                .replay
                .pop_front()
                .or_else(|| self.live.try_recv().ok());
            let Some(change) = change else { break };
            batch.push(change);
        }
        Ok(batch)
    }
}

// === impl Log ===

impl Log {
    pub(super) fn new(revision: u64) -> Self {
        Self(Mutex::new(State {
            history: VecDeque::new(),
            oldest: revision,
            followers: Vec::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was written up to a revision is not known: whoever follows lists again.
    pub(super) fn cut(&self, revision: u64) {
        let mut state = self.state();
        for follower in state.followers.drain(..) {
            let _already_ended = follower.end.set(StoreError::Lagged);
        }
        state.history.clear();
        state.oldest = revision;
    }

    pub(super) fn publish(&self, changes: Vec<Change>) {
        self.publish_at(Instant::now(), changes);
    }

    fn publish_at(&self, now: Instant, changes: Vec<Change>) {
        let mut state = self.state();
        for change in changes {
            state.followers.retain(|follower| follower.take(&change));
            state.history.push_back((now, change));
        }
        state.forget(now);
    }

    pub(super) fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError> {
        let mut state = self.state();
        if after < state.oldest {
            return Err(StoreError::Compacted {
                after,
                oldest: state.oldest,
            });
        }
        state
            .followers
            .retain(|follower| !follower.live.is_closed());
        if state.followers.len() >= MAX_WATCHES {
            return Err(StoreError::Lagged);
        }
        let wanted =
            |change: &&Change| change.revision() > after && change.key().starts_with(prefix);
        let history = state.history.iter().map(|(_, change)| change);
        let replay = history.filter(wanted).cloned().collect();
        let (send, live) = mpsc::channel(HISTORY);
        let end = Arc::new(OnceLock::new());
        state.followers.push(Follower {
            prefix: prefix.to_owned(),
            after,
            live: send,
            end: Arc::clone(&end),
        });
        Ok(Watch { replay, live, end })
    }
}

impl State {
    /// Drops what is too much or too old: a registry at rest does not remember renewals for ever.
    fn forget(&mut self, now: Instant) {
        while let Some((at, change)) = self.history.front() {
            let old = now.saturating_duration_since(*at) > REMEMBERED;
            if self.history.len() <= HISTORY && !old {
                return;
            }
            self.oldest = change.revision();
            self.history.pop_front();
        }
    }
}

impl Follower {
    /// Hands a change over; false if this follower is to be forgotten.
    fn take(&self, change: &Change) -> bool {
        if change.revision() <= self.after || !change.key().starts_with(&self.prefix) {
            return true;
        }
        match self.live.try_send(change.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                let _already_ended = self.end.set(StoreError::Lagged);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A registry at rest writes renewals for ever.
    #[tokio::test]
    async fn what_is_old_is_not_remembered() {
        let log = Log::new(0);
        let begin = Instant::now();
        let delete = |revision: u64| Change::Delete {
            key: Arc::from(format!("e/{revision}")),
            revision,
        };
        let mut all = log.watch("e/", 0).unwrap();
        for second in 1..=300 {
            log.publish_at(begin + Duration::from_secs(second), vec![delete(second)]);
            let known = log.state().history.len() as u64;
            assert!(
                known <= REMEMBERED.as_secs() + 1,
                "{known} after {second} s"
            );
        }
        for revision in 1..=300 {
            let change = all.next().await.unwrap();
            assert_eq!(change.revision(), revision, "who follows misses nothing");
        }
        let refused = log.watch("e/", 200).unwrap_err();
        assert!(
            matches!(refused, StoreError::Compacted { oldest: 269, .. }),
            "{refused}"
        );
        let mut late = log.watch("e/", 298).unwrap();
        assert_eq!(late.next().await.unwrap().revision(), 299);
        let many = (301..=301 + 2 * HISTORY as u64).map(delete).collect();
        log.publish_at(begin + Duration::from_secs(300), many);
        assert_eq!(log.state().history.len(), HISTORY);
    }
}
