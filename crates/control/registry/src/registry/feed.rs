//! From the store to the index: a listing, then its changes; a new listing when some were missed.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use buffa::Message as _;
use nsm_chain::Tasks;

use crate::{
    index::Stored,
    record::Record,
    store::{Age, Change, Entry, Listing, Store, StoreError, Watch},
    watch::{View, Write},
};

/// How many changes are taken over under one lock: above it Finds would wait for too long.
const BATCH: usize = 256;

/// How long to wait before a store that failed is asked again.
const RETRY: Duration = Duration::from_millis(500);

struct Feed<R: Record> {
    store: Arc<dyn Store>,
    view: Arc<View<R>>,
    /// Records that the store had at the start stay at least until then.
    until: SystemTime,
    /// The revision at the start.
    since: u64,
}

/// Fills the view, then keeps it up to date for as long as the tasks' owner lives; answers with the
/// store's ages.
pub(super) async fn start<R: Record>(
    store: &Arc<dyn Store>,
    view: &Arc<View<R>>,
    until: SystemTime,
    tasks: &Tasks,
) -> Result<Vec<Age>, StoreError> {
    let listing = store.list(R::PREFIX).await?;
    let past = store.past(R::PREFIX, listing.revision).await?;
    let name = |(key, at): &(Arc<str>, u64)| Some((key.strip_prefix(R::PREFIX)?.into(), *at));
    view.remember(past.deleted.iter().filter_map(name).collect(), past.since);
    let feed = Feed {
        store: Arc::clone(store),
        view: Arc::clone(view),
        until,
        since: listing.revision,
    };
    let watch = feed.fill(listing).await?;
    tasks.spawn(feed.follow(watch));
    Ok(past.ages)
}

impl<R: Record> Feed<R> {
    async fn follow(self, mut watch: Watch) {
        loop {
            match watch.next_batch(BATCH).await {
                Ok(changes) => {
                    let revision = changes.last().map_or(0, Change::revision);
                    self.view
                        .apply(changes.into_iter().filter_map(write).collect(), revision);
                }
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, kind = R::NAME, "listing the store again");
                    watch = self.refill().await;
                }
            }
        }
    }

    async fn refill(&self) -> Watch {
        loop {
            let listed = match self.store.list(R::PREFIX).await {
                Ok(listing) => self.fill(listing).await,
                Err(error) => Err(error),
            };
            match listed {
                Ok(watch) => return watch,
                Err(error) => {
                    tracing::error!(%error, kind = R::NAME, "the store cannot be read; trying again")
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn fill(&self, listing: Listing) -> Result<Watch, StoreError> {
        let watch = self.store.watch(R::PREFIX, listing.revision).await?;
        let kept = listing
            .entries
            .iter()
            .filter_map(decode::<R>)
            .map(|stored| self.grace(stored));
        self.view.replace(kept.collect(), listing.revision);
        Ok(watch)
    }

    fn grace(&self, mut stored: Stored<R>) -> Stored<R> {
        if stored.revision <= self.since {
            R::extend(Arc::make_mut(&mut stored.item), self.until);
        }
        stored
    }
}

fn write<R: Record>(change: Change) -> Option<Write<R>> {
    match change {
        Change::Put(entry) => decode(&entry).map(Write::Put),
        Change::Delete { key, revision } => Some(Write::Delete {
            name: key.strip_prefix(R::PREFIX)?.into(),
            revision,
        }),
    }
}

/// A stored record; one that cannot be read is left out and named in the log, since the others can.
pub(super) fn decode<R: Record>(entry: &Entry) -> Option<Stored<R>> {
    match R::Item::decode_from_slice(&entry.value) {
        Ok(mut item) => {
            // By our clock it may end later than by that of whoever wrote it.
            if let Some(lease) = entry.lease {
                R::extend(&mut item, lease);
            }
            Some(Stored {
                item: Arc::new(item),
                revision: entry.revision,
            })
        }
        Err(error) => {
            tracing::error!(key = %entry.key, %error, "a stored record cannot be read; register it again");
            None
        }
    }
}
