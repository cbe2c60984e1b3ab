//! The registry itself: what may be registered by whom, stored, found, watched and ended.
//!
//! Writes go to the store, come back through its watch, and are in the index before their caller is
//! answered, so that what was answered is found. Reads never leave the index.
//!
//! A record belongs to the SPIFFE ID of its first hop (`path_ids[0]`), which is stored with it: it
//! survives a restart, and the name is free again when the record ends. Upstream keeps names in
//! memory, and keeps them for ever.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use buffa::Message as _;
use nsm_chain::{Code, Endpoints, Error, Services, Tasks, elements::Names};
use tokio_util::sync::DropGuard;

use crate::{
    clock::Clock,
    index::Stored,
    record::{self, Record},
    store::{Age, Expect, Store, StoreError},
    watch::{Subscription, View, WATCH_QUEUE},
};

mod expiry;
mod feed;
mod resume;
pub(crate) mod rules;

pub use resume::Marks;
pub use rules::Verdict;

/// How many records of a kind one registry takes: two orders above the largest mesh we know of, at
/// about 2 KiB each.
pub const MAX_RECORDS: usize = 262_144;

/// How often a write is decided anew because another one for the same name got in between.
const MAX_ATTEMPTS: usize = 8;

/// What can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long an endpoint that was found in the store at the start is kept at least: while this
    /// registry was away nobody could refresh it, so that its silence says nothing.
    pub grace: Duration,
    /// How many changes wait for a watcher before it is cut off.
    pub watch_queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(60),
            watch_queue: WATCH_QUEUE,
        }
    }
}

/// A registry; a clone is the same one. Its tasks end with the last clone.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    views: Views,
    ages: Vec<Age>,
    tasks: Tasks,
    _end: DropGuard,
}

/// The two kinds of record.
#[derive(Debug)]
pub struct Views {
    pub(crate) services: Arc<View<Services>>,
    pub(crate) endpoints: Arc<View<Endpoints>>,
}

impl Registry {
    /// Reads what the store has and begins to follow it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Result<Self, Error> {
        let queue = config.watch_queue;
        let views = Views {
            services: Arc::new(View::new(queue)),
            endpoints: Arc::new(View::new(queue)),
        };
        let tasks = Tasks::new();
        // What began ends also if the rest cannot.
        let end = tasks.guard();
        let until = clock
            .now()
            .checked_add(config.grace)
            .unwrap_or_else(|| clock.now());
        feed::start::<Services>(&store, &views.services, until, &tasks)
            .await
            .map_err(failed)?;
        let ages = feed::start::<Endpoints>(&store, &views.endpoints, until, &tasks)
            .await
            .map_err(failed)?;
        expiry::start::<Endpoints>(&store, &views.endpoints, &clock, &tasks);
        Ok(Self(Arc::new(Inner {
            store,
            clock,
            views,
            ages,
            tasks,
            _end: end,
        })))
    }

    /// Ends the registry's tasks and its watches, waiting no longer than `patience`.
    pub async fn shutdown(&self, patience: Duration) {
        self.0.tasks.shutdown(patience).await;
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.0.clock.now()
    }

    fn view<R: Record>(&self) -> &Arc<View<R>> {
        R::view(&self.0.views)
    }

    /// Who registered what, for an operator's policies.
    #[must_use]
    pub fn names<R: Record>(&self) -> Names {
        let view = Arc::clone(self.view::<R>());
        Arc::new(move || view.with(crate::index::Index::path_ids))
    }

    /// How many records of a kind there are, and how many watchers of it.
    #[must_use]
    pub fn counts<R: Record>(&self) -> (usize, usize) {
        (
            self.view::<R>().with(crate::index::Index::len),
            self.view::<R>().watchers(),
        )
    }

    /// Registers a record, or registers it again; answers with what is stored now.
    ///
    /// An endpoint belongs to whoever registered it until it ends. A service that comes without
    /// matches, as endpoints register theirs, never changes one that somebody else registered or
    /// that has matches: the answer is the stored one if the payload agrees. (Upstream overwrites
    /// an operator's matches if the identity is the same, and refuses the endpoint if it is not.)
    /// A service with matches replaces one without, or one of the same owner.
    ///
    /// # Errors
    /// `InvalidArgument` for a record beyond a limit, `PermissionDenied` for somebody else's name,
    /// `FailedPrecondition` for another payload, `ResourceExhausted`, or what the store says.
    pub async fn register<R: Record>(&self, record: R::Item) -> Result<R::Item, Error> {
        record::check::<R>(&record)?;
        let name = R::id(&record);
        let mut current = self.view::<R>().with(|index| {
            let full = index.len() >= MAX_RECORDS;
            index.get(name).map_or_else(
                || if full { Err(full_of::<R>()) } else { Ok(None) },
                |stored| Ok(Some(stored)),
            )
        })?;
        let key = key::<R>(name);
        let value: Arc<[u8]> = record.encode_to_vec().into();
        let now = self.now();
        for _ in 0..MAX_ATTEMPTS {
            let ended = current
                .as_ref()
                .is_some_and(|stored| R::expires(&stored.item).is_some_and(|at| at <= now));
            if let Some(stored) = current.as_ref().filter(|_| !ended)
                && R::decide(&stored.item, &record)? == Verdict::Keep
            {
                return Ok((*stored.item).clone());
            }
            match self
                .0
                .store
                .put(
                    &key,
                    Arc::clone(&value),
                    expect(current.as_ref()),
                    R::expires(&record),
                )
                .await
            {
                Ok(revision) => {
                    self.settled::<R>(revision).await;
                    return Ok(record);
                }
                Err(StoreError::Conflict { .. }) => current = self.stored(&key).await?,
                Err(error) => return Err(failed(error)),
            }
        }
        Err(contended::<R>(name))
    }

    /// Ends a record. One that is not there is ended already.
    ///
    /// # Errors
    /// `PermissionDenied` for somebody else's, or what the store says.
    pub async fn unregister<R: Record>(&self, record: &R::Item) -> Result<(), Error> {
        let may = |stored: &Stored<R>| rules::may_end::<R>(&stored.item, record).map(|()| true);
        self.end::<R>(R::id(record), may).await
    }

    /// Ends a record, whoever it belongs to: an operator's.
    ///
    /// # Errors
    /// What the store says.
    pub async fn unregister_any<R: Record>(&self, name: &str) -> Result<(), Error> {
        self.end::<R>(name, |_| Ok(true)).await
    }

    /// Ends a record whose time has come; one that was renewed stays.
    ///
    /// # Errors
    /// What the store says.
    pub async fn unregister_ended<R: Record>(&self, name: &str) -> Result<(), Error> {
        let now = self.now();
        self.end::<R>(name, |stored| {
            Ok(R::expires(&stored.item).is_some_and(|at| at <= now))
        })
        .await
    }

    async fn end<R: Record>(
        &self,
        name: &str,
        may: impl Fn(&Stored<R>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let key = key::<R>(name);
        let mut current = self.view::<R>().with(|index| index.get(name));
        for _ in 0..MAX_ATTEMPTS {
            let Some(stored) = &current else {
                return Ok(());
            };
            if !may(stored)? {
                return Ok(());
            }
            match self.0.store.delete(&key, expect(Some(stored))).await {
                Ok(revision) => {
                    self.settled::<R>(revision.unwrap_or(0)).await;
                    return Ok(());
                }
                Err(StoreError::Conflict { .. }) => current = self.stored(&key).await?,
                Err(error) => return Err(failed(error)),
            }
        }
        Err(contended::<R>(name))
    }

    /// The records that a query asks for, by wire contract 3.1 with two differences: a URL is
    /// compared whole, not as a substring, and what has ended is left out.
    #[must_use]
    pub fn find<R: Record>(&self, query: &R::Item) -> Vec<Arc<R::Item>> {
        let now = self.now();
        self.view::<R>().with(|index| index.find(query, Some(now)))
    }

    /// The record of this name.
    #[must_use]
    pub fn get<R: Record>(&self, name: &str) -> Option<Arc<R::Item>> {
        self.view::<R>()
            .with(|index| index.get(name))
            .map(|stored| stored.item)
    }

    /// Begins a watch: what a query matches now, then every change.
    ///
    /// # Errors
    /// `ResourceExhausted` beyond [`MAX_WATCHERS`](crate::watch::MAX_WATCHERS).
    pub fn watch<R: Record>(&self, query: R::Item) -> Result<Subscription<R>, Error> {
        self.view::<R>().watch(query, Some(self.now()))
    }

    /// Waits until a write is in the index, so that its caller finds it.
    async fn settled<R: Record>(&self, revision: u64) {
        tokio::select! {
            biased;
            () = self.view::<R>().applied(revision) => {}
            () = self.0.tasks.cancelled() => {}
        }
    }

    /// What the store has, when the index is behind.
    async fn stored<R: Record>(&self, key: &str) -> Result<Option<Stored<R>>, Error> {
        let entry = self.0.store.get(key).await.map_err(failed)?;
        Ok(entry.as_ref().and_then(feed::decode::<R>))
    }
}

fn key<R: Record>(name: &str) -> String {
    format!("{}{name}", R::PREFIX)
}

fn expect<R: Record>(current: Option<&Stored<R>>) -> Expect {
    current.map_or(Expect::Absent, |stored| Expect::Revision(stored.revision))
}

fn full_of<R: Record>() -> Error {
    let message = format!(
        "{MAX_RECORDS} {}s are registered here already: no more are taken",
        R::NAME
    );
    Error::new(Code::ResourceExhausted, message)
}

fn contended<R: Record>(name: &str) -> Error {
    let message = format!(
        "{} {name:?}: {MAX_ATTEMPTS} other writes got in between; retry",
        R::NAME
    );
    Error::new(Code::Aborted, message)
}

/// What a store's failure is to a caller.
fn failed(error: StoreError) -> Error {
    let code = match error {
        StoreError::Conflict { .. } => Code::Aborted,
        StoreError::Closed
        | StoreError::Io { .. }
        | StoreError::Lagged
        | StoreError::Away { .. }
        | StoreError::NoLease
        | StoreError::Compacted { .. } => Code::Unavailable,
        StoreError::Newer { .. }
        | StoreError::Corrupt { .. }
        | StoreError::InUse { .. }
        | StoreError::Refused { .. } => Code::Internal,
    };
    Error::new(code, error.to_string())
}
