//! Follows one kind: a watch, a list, then the watch's changes, again and again.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use nsm_chain::{Backoff, Code, Error, Tasks};
use tokio::time::{Instant, timeout_at};

use super::{Side, Source, Sourced};

/// The first and the longest wait before a lost registry is asked again: one that restarts is back
/// within the first few, and thousands of mirrors leave one that struggles alone.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How long connecting, opening a watch and listing may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A round that lasted this long worked: the next wait is the first one again. A registry that
/// takes the watch and drops it at once is asked ever more rarely.
const WORKED: Duration = Duration::from_secs(5);

pub(super) fn start<R: Sourced>(source: &Arc<dyn Source>, side: &Arc<Side<R>>, tasks: &Tasks) {
    let (source, side) = (Arc::clone(source), Arc::clone(side));
    tasks.spawn(async move {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let started = Instant::now();
            let error = round(&*source, &side).await;
            side.synced.send_replace(false);
            if started.elapsed() > WORKED {
                backoff.reset();
            }
            let wait = backoff.next_wait();
            tracing::warn!(kind = R::NAME, %error, ?wait, "the registry is lost; its last records are kept");
            tokio::time::sleep(wait).await;
        }
    });
}

/// The watch is opened before the list is asked for, so that the list is not older than the watch's
/// first answers: what changed between the two comes again with the watch, and ends as it is.
async fn round<R: Sourced>(source: &dyn Source, side: &Side<R>) -> Error {
    let deadline = Instant::now() + PATIENCE;
    let begin = async {
        let changes = R::follow(source, deadline).await?;
        let list = R::list(source, <R as nsm_chain::Kind>::Item::default(), deadline).await?;
        Ok::<_, Error>((changes, list))
    };
    let (mut changes, list) = match timeout_at(deadline, begin).await {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => return error,
        Err(_) => {
            return Error::new(
                Code::DeadlineExceeded,
                format!("no answer within {PATIENCE:?}"),
            );
        }
    };
    side.replace(list);
    side.synced.send_replace(true);
    tracing::info!(kind = R::NAME, "following the registry");
    while let Some(found) = changes.next().await {
        match found.map(R::change) {
            Ok(Some((record, true))) => side.remove(R::id(&record)),
            Ok(Some((record, false))) => drop(side.put(record)),
            Ok(None) => {}
            Err(error) => return error,
        }
    }
    Error::new(Code::Unavailable, "the registry ended the watch")
}
