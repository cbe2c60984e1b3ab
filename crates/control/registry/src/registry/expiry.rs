//! What nobody renews ends: a task that sleeps until the next record's time has come.

use std::{sync::Arc, time::Duration};

use nsm_chain::Tasks;

use crate::{
    clock::Clock,
    record::Record,
    store::{Expect, Store, StoreError},
    watch::View,
};

/// How long the task sleeps at most, so that a clock that is set forward and a record that ends
/// before all others are noticed: endpoints live for about a minute.
const NAP: Duration = Duration::from_secs(1);

/// How many records are ended at once: they share a commit.
const BATCH: usize = 256;

pub(super) fn start<R: Record>(
    store: &Arc<dyn Store>,
    view: &Arc<View<R>>,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) {
    let (store, view, clock) = (Arc::clone(store), Arc::clone(view), Arc::clone(clock));
    tasks.spawn(async move {
        loop {
            let now = clock.now();
            let next = view.with(|index| index.next_expiry());
            let nap = next.map_or(NAP, |at| {
                at.duration_since(now).unwrap_or_default().min(NAP)
            });
            if nap.is_zero() && end::<R>(&*store, &view, &*clock).await {
                continue;
            }
            tokio::time::sleep(nap.max(Duration::from_millis(1))).await;
        }
    });
}

/// Ends what is due; false if the store failed, so that it is not asked again at once.
async fn end<R: Record>(store: &dyn Store, view: &View<R>, clock: &dyn Clock) -> bool {
    let ended = view.with(|index| index.ended(clock.now(), BATCH));
    let deletions = ended.iter().map(|stored| async {
        let key = format!("{}{}", R::PREFIX, R::id(&stored.item));
        // Renewed since: then the revision is another one, and the record stays.
        store.delete(&key, Expect::Revision(stored.revision)).await
    });
    let mut done = true;
    let mut last = 0;
    for (answer, stored) in futures_util::future::join_all(deletions)
        .await
        .into_iter()
        .zip(&ended)
    {
        match answer {
            Ok(revision) => last = last.max(revision.unwrap_or(0)),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, name = R::id(&stored.item), "an ended {} stays for now", R::NAME);
                done = false;
            }
        }
    }
    view.applied(last).await;
    done
}
