//! Closes that the next hop has not answered: sent again until it does.
//!
//! A hop that was away when a connection was closed keeps its part, since nothing tells it apart
//! from one whose hop is away. So the close is owed, and paid when that hop is back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::{Duration, Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Backoff, Code, Error, Tasks, Transport, downstream::Downstream};

/// Waits between attempts: a hop that died is not back sooner, and what it kept is in nobody's way.
const AGAIN: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(60));
/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// As long as a lease is suspended at the most: beyond it the hop has closed by itself.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The most that are owed at a time, about 4 KiB each: what is more ends with its lease.
const MAX_OWED: usize = 4_096;

/// See the module; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Owed(Arc<Mutex<BTreeMap<String, DropGuard>>>);

impl Owed {
    fn table(&self) -> MutexGuard<'_, BTreeMap<String, DropGuard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is asked for again: what it was is no longer to be closed.
    pub(crate) fn forgive(&self, id: &str) {
        self.table().remove(id);
    }

    /// Goes on closing where `failed` says that the hop was away.
    pub(crate) fn owe(
        &self,
        id: &str,
        left: Downstream,
        failed: &Error,
        transport: Arc<dyn Transport>,
        tasks: &Tasks,
    ) {
        let mut table = self.table();
        if !is_away(failed) || table.len() >= MAX_OWED {
            return;
        }
        let forgiven = CancellationToken::new();
        table.insert(id.to_owned(), forgiven.clone().drop_guard());
        drop(table);
        let (owed, id) = (self.clone(), id.to_owned());
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = forgiven.cancelled() => return,
                () = pay(&id, &left, transport.as_ref()) => {}
            }
            owed.forgive(&id);
        });
    }
}

fn is_away(error: &Error) -> bool {
    matches!(
        error.code,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
    )
}

/// Until somebody answers, whatever it is.
async fn pay(id: &str, left: &Downstream, transport: &dyn Transport) {
    let began = Instant::now();
    let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
    while began.elapsed() < LONGEST {
        sleep(backoff.next_wait()).await;
        let deadline = Instant::now() + PATIENCE;
        let closed = async {
            let hop = left.reach(transport, deadline).await?;
            hop.close(left.connection.clone(), deadline).await
        };
        match closed.await {
            Err(error) if is_away(&error) => {}
            answered => {
                tracing::info!(
                    id,
                    hop = left.hop(),
                    ?answered,
                    "closed at a hop that was away"
                );
                return;
            }
        }
    }
}
