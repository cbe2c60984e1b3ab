//! A registry's records, copied into a process that asks for them on every request.
//!
//! A [`Mirror`] follows both kinds by a watch and answers from its own index, so that no Find is in
//! a request's path. When the stream is lost it keeps what it has and connects again, at growing
//! intervals that no two mirrors share; then it opens a watch, lists, and lets the difference
//! between the list and its copy be a change like any other: what was deleted meanwhile is noticed.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nsm_api::registry::{NetworkService, NetworkServiceEndpoint};
use nsm_chain::{Code, Endpoints, Error, Services, Tasks, elements::Names};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::DropGuard;

use crate::{
    index::Stored,
    record::{self, Record},
    registry::{MAX_RECORDS, Views},
    watch::{Subscription, View, WATCH_QUEUE, Write},
};

mod follow;
mod source;

pub use source::{Followed, RpcSource, Source, Sourced};

/// The copy; a clone is the same one. It follows for as long as a clone lives.
#[derive(Debug, Clone)]
pub struct Mirror(Arc<Inner>);

struct Inner {
    source: Arc<dyn Source>,
    views: Views,
    services: Arc<Side<Services>>,
    endpoints: Arc<Side<Endpoints>>,
    tasks: Tasks,
    _end: DropGuard,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.views.fmt(f)
    }
}

/// One kind of the copy.
#[doc(hidden)]
#[derive(Debug)]
pub struct Side<R: Record> {
    view: Arc<View<R>>,
    /// Counts changes, and is held while one is made, so that they have an order.
    revision: Mutex<u64>,
    synced: watch::Sender<bool>,
}

/// Both sides.
#[doc(hidden)]
#[derive(Debug)]
pub struct Sides<'a> {
    services: &'a Arc<Side<Services>>,
    endpoints: &'a Arc<Side<Endpoints>>,
}

impl Mirror {
    /// Begins to follow a registry; empty until [`Mirror::wait_synced`].
    #[must_use]
    pub fn start(source: Arc<dyn Source>) -> Self {
        let tasks = Tasks::new();
        let (services, endpoints) = (Arc::new(Side::new()), Arc::new(Side::new()));
        follow::start::<Services>(&source, &services, &tasks);
        follow::start::<Endpoints>(&source, &endpoints, &tasks);
        let views = Views {
            services: Arc::clone(&services.view),
            endpoints: Arc::clone(&endpoints.view),
        };
        let end = tasks.guard();
        Self(Arc::new(Inner {
            source,
            views,
            services,
            endpoints,
            tasks,
            _end: end,
        }))
    }

    fn view<R: Record>(&self) -> &Arc<View<R>> {
        R::view(&self.0.views)
    }

    fn side<R: Sourced>(&self) -> &Arc<Side<R>> {
        R::side(&Sides {
            services: &self.0.services,
            endpoints: &self.0.endpoints,
        })
    }

    /// The service of this name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<Arc<NetworkService>> {
        self.get::<Services>(name)
    }

    /// The endpoint of this name.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Option<Arc<NetworkServiceEndpoint>> {
        self.get::<Endpoints>(name)
    }

    /// The services that a query asks for.
    #[must_use]
    pub fn services(&self, query: &NetworkService) -> Vec<Arc<NetworkService>> {
        self.view::<Services>()
            .with(|index| index.find(query, None))
    }

    /// The endpoints that a query asks for. Ended ones are among them: while the registry is away
    /// nobody can tell whether they were renewed.
    #[must_use]
    pub fn endpoints(&self, query: &NetworkServiceEndpoint) -> Vec<Arc<NetworkServiceEndpoint>> {
        self.view::<Endpoints>()
            .with(|index| index.find(query, None))
    }

    /// The record of this name.
    #[must_use]
    pub fn get<R: Record>(&self, name: &str) -> Option<Arc<R::Item>> {
        self.view::<R>()
            .with(|index| index.get(name))
            .map(|stored| stored.item)
    }

    /// Who registered what, for an operator's policies.
    #[must_use]
    pub fn names<R: Record>(&self) -> Names {
        let view = Arc::clone(self.view::<R>());
        Arc::new(move || view.with(crate::index::Index::path_ids))
    }

    /// What matches now, then every change; it goes on while the registry is away.
    ///
    /// # Errors
    /// `ResourceExhausted` beyond [`MAX_WATCHERS`](crate::watch::MAX_WATCHERS).
    pub fn watch<R: Record>(&self, query: R::Item) -> Result<Subscription<R>, Error> {
        self.view::<R>().watch(query, None)
    }

    /// Whether both kinds are followed now; else the copy may be old.
    #[must_use]
    pub fn synced(&self) -> bool {
        *self.0.services.synced.borrow() && *self.0.endpoints.synced.borrow()
    }

    /// Waits until both kinds are followed.
    ///
    /// # Errors
    /// `Unavailable` at the deadline.
    pub async fn wait_synced(&self, deadline: Instant) -> Result<(), Error> {
        let wait = async {
            let (mut services, mut endpoints) = (
                self.0.services.synced.subscribe(),
                self.0.endpoints.synced.subscribe(),
            );
            let _senders_live_in_self = services.wait_for(|synced| *synced).await;
            let _senders_live_in_self = endpoints.wait_for(|synced| *synced).await;
        };
        tokio::time::timeout_at(deadline, wait).await.map_err(|_| {
            Error::new(
                Code::Unavailable,
                "the registry could not be listed in time: is it up, and its address right?",
            )
        })
    }

    /// Adds a record at once, ahead of the watch: one that this process has just registered.
    pub fn insert<R: Sourced>(&self, record: R::Item) {
        self.side::<R>().put(record);
    }

    /// Takes a record out at once, ahead of the watch.
    pub fn remove<R: Sourced>(&self, name: &str) {
        self.side::<R>().remove(name);
    }

    /// Asks the registry itself, for what the copy does not have (yet), and keeps the answer.
    ///
    /// # Errors
    /// The registry's, or `DeadlineExceeded`.
    pub async fn find_through<R: Sourced>(
        &self,
        query: R::Item,
        deadline: Instant,
    ) -> Result<Vec<Arc<R::Item>>, Error> {
        let found = R::list(&*self.0.source, query, deadline).await?;
        Ok(found
            .into_iter()
            .map(|record| self.side::<R>().put(record))
            .collect())
    }

    /// Ends following, waiting no longer than `patience`.
    pub async fn shutdown(&self, patience: Duration) {
        self.0.tasks.shutdown(patience).await;
    }
}

// === impl Side ===

impl<R: Record> Side<R> {
    fn new() -> Self {
        Self {
            view: Arc::new(View::new(WATCH_QUEUE)),
            revision: Mutex::new(0),
            synced: watch::Sender::new(false),
        }
    }

    fn change<T>(&self, change: impl FnOnce(u64) -> T) -> T {
        let mut revision = self.revision.lock().unwrap_or_else(PoisonError::into_inner);
        *revision += 1;
        change(*revision)
    }

    /// Puts a record that differs from the one of its name; answers with the one that is there.
    fn put(&self, record: R::Item) -> Arc<R::Item> {
        self.change(|revision| {
            let (known, full) = self
                .view
                .with(|index| (index.get(R::id(&record)), index.len() >= MAX_RECORDS));
            if let Some(known) = known.as_ref().filter(|known| *known.item == record) {
                return Arc::clone(&known.item);
            }
            let item = Arc::new(record);
            if known.is_none() && (full || record::check::<R>(&item).is_err()) {
                tracing::warn!(
                    kind = R::NAME,
                    name = R::id(&item),
                    "not copied: beyond this program's limits"
                );
                return item;
            }
            self.view.apply(
                vec![Write::Put(Stored {
                    item: Arc::clone(&item),
                    revision,
                })],
                revision,
            );
            item
        })
    }

    fn remove(&self, name: &str) {
        self.change(|revision| {
            self.view.apply(
                vec![Write::Delete {
                    name: name.into(),
                    revision,
                }],
                revision,
            )
        });
    }

    fn replace(&self, list: Vec<R::Item>) {
        self.change(|revision| {
            let fits = |record: &R::Item| record::check::<R>(record).is_ok();
            let list = list.into_iter().filter(fits).take(MAX_RECORDS);
            let list = list.map(|record| Stored {
                item: Arc::new(record),
                revision,
            });
            self.view.replace(list.collect(), revision);
        });
    }
}

impl<'a> Sides<'a> {
    pub(crate) fn services(&self) -> &'a Arc<Side<Services>> {
        self.services
    }

    pub(crate) fn endpoints(&self) -> &'a Arc<Side<Endpoints>> {
        self.endpoints
    }
}
