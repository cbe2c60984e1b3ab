//! Following again after a restart.

use tokio::time::Instant;

use super::{DIAL, Followed, Follower, RETRY};
use crate::{Backoff, elements::Downstream};

/// Stands for the peer of a connection whose peer is being found.
const RESUMING: &str = "";

impl Follower {
    /// As [`Follower::follow`], of a connection that was taken up again: its peer is found first,
    /// for as long as that takes, and is asked whether it still has the connection. `found` is told
    /// where it is.
    pub fn resume(
        &self,
        id: &str,
        downstream: Downstream,
        last: bool,
        found: impl FnOnce(&Downstream) + Send + 'static,
    ) {
        self.0
            .state()
            .peers
            .insert(id.to_owned(), RESUMING.to_owned());
        let (follower, id) = (self.clone(), id.to_owned());
        self.0.tasks.spawn(async move {
            let mut backoff = Backoff::new(RETRY.0, RETRY.1);
            while follower.is_resuming(&id) {
                let deadline = Instant::now() + DIAL;
                let reached = downstream.connect(follower.0.transport.as_ref(), deadline);
                match reached.await {
                    Ok((place, hop)) => {
                        let next = downstream.clone().found_at(place);
                        if follower.is_resuming(&id) {
                            found(&next);
                            follower.join(&id, next, hop, last, true);
                        }
                        return;
                    }
                    Err(error) => {
                        tracing::debug!(id, %error, "the next hop is not back yet");
                        tokio::time::sleep(backoff.next_wait()).await;
                    }
                }
            }
        });
    }

    fn is_resuming(&self, id: &str) -> bool {
        self.0.state().is_resuming(id)
    }
}

impl Followed {
    /// Whether any connection of before is still looking for its peer.
    pub(super) fn is_any_resuming(&self) -> bool {
        self.peers.values().any(|key| key == RESUMING)
    }

    /// Nobody has asked for it, or forgotten it, since.
    pub(super) fn is_resuming(&self, id: &str) -> bool {
        self.peers.get(id).is_some_and(|key| key == RESUMING)
    }
}
