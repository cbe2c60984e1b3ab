//! Connections whose endpoint no longer fits move: a service's definition, or an endpoint's labels,
//! have changed.
//!
//! Only the forwarder that selected an endpoint judges it, and only by what is registered: an
//! endpoint that is in no registry is in doubt, and its connections stay. Whoever made the
//! connection is told to ask again; that request selects anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::BoxStream};
use nsm_api::connection::State;
use nsm_chain::{Backoff, Directory, Error, Kept, Tasks, elements::Table, seam::chance};
use nsm_model::select;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{Lives, elements::Chosen, lives::Live};

/// Changes that come within this are looked at together, and no later than the last of these.
const SETTLED: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Waits before a watch that ended is begun again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How often a quiet watch is asked whether anybody still needs it.
const NEEDED: Duration = Duration::from_secs(60);
/// How long no connection is moved back to an endpoint that failed it, and how often that doubles:
/// to half an hour.
const SHUNNED: (Duration, u32) = (Duration::from_secs(30), 6);
/// How many of those are remembered for a connection: more than anybody has replicas.
const MAX_SHUNNED: usize = 32;
/// The longest wait between two connections that are told: many of one service do not come at once.
const SPREAD_MS: u64 = 20;

/// This forwarder selected the connection's endpoint, by its labels.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Selected {}

impl Kept for Selected {
    const NAME: &'static str = "selected";
}

/// The connection's endpoint no longer fits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unfit;

/// Endpoints that have failed a connection, when last, and how often: none is moved back to one of
/// them for [`SHUNNED`], then twice as long, since a path that is broken may stay so while its
/// endpoint registers again and again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shunned(BTreeMap<String, (Instant, u32)>);

impl Shunned {
    /// It failed just now.
    pub(crate) fn add(&mut self, endpoint: &str) {
        let known = self.0.get(endpoint).map_or(0, |(_, times)| *times);
        let times = known.saturating_add(1);
        self.0.insert(endpoint.to_owned(), (Instant::now(), times));
        if self.0.len() > MAX_SHUNNED {
            let oldest = self.0.iter().min_by_key(|(_, (at, _))| *at);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.0.remove(&oldest);
            }
        }
    }

    /// Those that no connection is moved back to now.
    fn names(&self) -> Vec<String> {
        let shunned = |(at, times): &(Instant, u32)| {
            let wait = SHUNNED.0 * (1 << (times - 1).min(SHUNNED.1));
            at.elapsed() < wait
        };
        let names = self.0.iter().filter(|(_, one)| shunned(one));
        names.map(|(name, _)| name.clone()).collect()
    }
}

/// See the module.
pub(crate) struct Moves {
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) lives: Arc<Lives>,
    pub(crate) table: Arc<dyn Table>,
    pub(crate) tasks: Tasks,
    /// Services that are watched.
    pub(crate) watched: Mutex<BTreeSet<String>>,
}

impl Moves {
    fn watched(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An endpoint of this service has been selected here.
    pub(crate) fn follow(self: &Arc<Self>, service: &str) {
        if !self.watched().insert(service.to_owned()) {
            return;
        }
        let (moves, service) = (Arc::clone(self), service.to_owned());
        self.tasks.spawn(async move { moves.watch(&service).await });
    }

    /// Until nobody needs it any more.
    async fn watch(&self, service: &str) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let began = Instant::now();
            match self.directory.changes(service, began + PATIENCE).await {
                Ok(changes) => {
                    if self.hear(service, changes).await {
                        return;
                    }
                }
                Err(error) => tracing::debug!(service, %error, "its changes are not told"),
            }
            if began.elapsed() > RETRY.1 {
                backoff.reset();
            }
            sleep(backoff.next_wait()).await;
            if self.finished(service) {
                return;
            }
        }
    }

    /// Whether it is needed no longer; else the watch has ended.
    async fn hear(&self, service: &str, mut changes: BoxStream<'static, ()>) -> bool {
        loop {
            match timeout_at(Instant::now() + NEEDED, changes.next()).await {
                Err(_quiet) => {
                    if self.finished(service) {
                        return true;
                    }
                    continue;
                }
                Ok(None) => return false,
                Ok(Some(())) => {}
            }
            let last = Instant::now() + SETTLED.1;
            while let Ok(Some(())) =
                timeout_at(last.min(Instant::now() + SETTLED.0), changes.next()).await
            {}
            match self.unfit(service).await {
                Ok(unfit) => self.tell(unfit).await,
                Err(error) => tracing::debug!(service, %error, "who serves it cannot be looked up"),
            }
        }
    }

    fn finished(&self, service: &str) -> bool {
        let mut watched = self.watched();
        let needed = self.selected(service).next().is_some();
        if !needed {
            watched.remove(service);
        }
        !needed
    }

    /// Its connections that an endpoint was selected for here.
    fn selected(&self, service: &str) -> impl Iterator<Item = Live> {
        self.lives.all().into_iter().filter(move |live| {
            live.store.kept::<Selected>().is_some()
                && self
                    .table
                    .get(&live.id)
                    .is_some_and(|known| known.network_service == service)
        })
    }

    /// Those whose endpoint is registered and does not fit, while another one does.
    async fn unfit(&self, name: &str) -> Result<Vec<Live>, Error> {
        let deadline = Instant::now() + PATIENCE;
        let service = self.directory.service(name, deadline).await?;
        let endpoints = self.directory.endpoints(name, deadline).await?;
        let is_unfit = |live: &Live| {
            let (Some(Chosen(chosen)), Some(known)) =
                (live.store.kept::<Chosen>(), self.table.get(&live.id))
            else {
                return false;
            };
            let mut shunned = live.store.get::<Shunned>().unwrap_or_default().names();
            shunned.retain(|name| *name != chosen);
            // An end that has passed says nothing here: its endpoint may be renewed.
            let mut fit = select::candidates(&known.labels, &service, &endpoints, 0, &[], &shunned);
            fit.retain(|fits| !fits.failed);
            // Those of the first match that leads to anybody come first.
            let best = fit.first().map(|fits| fits.tier);
            let mut fit = fit.iter().filter(|fits| Some(fits.tier) == best);
            endpoints.iter().any(|endpoint| endpoint.name == chosen)
                && best.is_some()
                && fit.all(|fits| fits.endpoint.name != chosen)
        };
        Ok(self.selected(name).filter(is_unfit).collect())
    }

    async fn tell(&self, unfit: Vec<Live>) {
        for live in unfit {
            live.store.put(Unfit);
            self.table.change(&live.id, &mut |connection| {
                tracing::info!(id = live.id, "its endpoint no longer fits: it moves");
                connection.state = State::REFRESH_REQUESTED.into();
                true
            });
            sleep(Duration::from_millis(chance() % SPREAD_MS)).await;
        }
    }
}
