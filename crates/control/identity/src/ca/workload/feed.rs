//! The streams that an agent keeps open: SVIDs of one caller, and bundles.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use tonic::Status;

use super::{Agent, Known};
use crate::{ca::node::Held, workload::X509SVIDResponse};

/// How long a removed entry may go on at most while its SVID is not yet due.
const ENTRIES_CHECK: Duration = Duration::from_secs(1);

/// One caller's stream of SVIDs.
pub(super) struct SvidFeed {
    agent: Arc<Agent>,
    known: Known,
    held: watch::Receiver<Arc<Held>>,
    due: Option<Instant>,
    over: bool,
}

impl SvidFeed {
    pub(super) fn new(agent: Arc<Agent>, known: Known) -> Self {
        Self {
            held: agent.node.watch(),
            agent,
            known,
            due: None,
            over: false,
        }
    }

    /// The next SVID: at once the first time, then when half of the last one's life is over, or
    /// when the caller's entry or the node's intermediate changes.
    pub(super) async fn next(mut self) -> Option<(Result<X509SVIDResponse, Status>, Self)> {
        if self.over {
            return None;
        }
        if let Some(due) = self.due {
            match self.wait(due).await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(status) => {
                    self.over = true;
                    return Some((Err(status), self));
                }
            }
        }
        let held = self.held.borrow_and_update().clone();
        let answer = match self.agent.svid(&self.known.id, &held) {
            Ok((response, due)) => {
                self.due = Some(due);
                Ok(response)
            }
            Err(error) => {
                self.over = true;
                Err(error.status())
            }
        };
        Some((answer, self))
    }

    /// Until a new SVID is needed; `false` when there is nobody to send it to.
    async fn wait(&mut self, due: Instant) -> Result<bool, Status> {
        loop {
            let pause = due
                .saturating_duration_since(Instant::now())
                .min(ENTRIES_CHECK);
            let mut changed = false;
            tokio::select! {
                () = self.agent.cancel.cancelled() => return Ok(false),
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.held.changed() => changed = true,
            }
            if !self.known.caller.alive() {
                return Ok(false);
            }
            let id = self.agent.find(&self.known.facts)?;
            if changed || id != self.known.id || Instant::now() >= due {
                self.known.id = id;
                return Ok(true);
            }
        }
    }
}

/// A stream that is sent anew whenever the node's grant changes.
pub(super) fn bundle_feed<T: Send + 'static>(
    agent: &Arc<Agent>,
    message: impl Fn(&Held) -> T + Send + 'static,
) -> impl Stream<Item = Result<T, Status>> + Send + 'static {
    let held = agent.node.watch();
    let cancel = agent.cancel.clone();
    let state = (held, message, true);
    let feed = stream::unfold(state, |(mut held, message, first)| async move {
        if !first {
            held.changed().await.ok()?;
        }
        let answer = message(&held.borrow_and_update().clone());
        Some((Ok(answer), (held, message, false)))
    });
    feed.take_until(cancel.cancelled_owned())
}
