//! The heals of one client: at most one a connection.

mod decision;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use buffa::MessageField;
use futures_util::StreamExt as _;
use nsm_api::{
    connection::{Connection, State},
    connectioncontext::IPContext,
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Backoff, Connections, Error, Tasks,
    begin::Factory,
    elements::Table,
    follow::{Change, is_of_before},
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::{Flow, Liveness, handover::without};
use decision::{Ask, Known, Word};

/// Waits between attempts while packets are lost, and between heals that follow one another.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// Waits between attempts while packets flow: one that restarts is found again soon. No longer than
/// this, since asking is what renews the lease at the hops that are there, and leases may be short.
const CALM: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// What is said cuts no such wait shorter than this: a hop that comes and goes is no hot loop.
const CALM_AT_LEAST: Duration = Duration::from_millis(200);
/// A connection that needed no heal for as long, and for some times its last wait, is healed at
/// once the next time: that heal had helped.
const HELPED: (Duration, u32) = (Duration::from_millis(500), 4);
/// How many connections are looked at at once: each look may take an echo's time-out.
const LOOKS_AT_ONCE: usize = 16;

/// See the module.
pub(crate) struct Healer {
    pub(crate) table: Arc<dyn Table>,
    pub(crate) tasks: Tasks,
    pub(crate) patience: Duration,
    pub(crate) liveness: Arc<dyn Liveness>,
    connections: Mutex<BTreeMap<String, Watched>>,
    looking: AtomicBool,
}

struct Watched {
    factory: Factory<Connections>,
    /// As it was last granted.
    connection: Connection,
    /// What nobody has looked into yet.
    told: Option<Word>,
    /// A heal runs.
    healing: bool,
    /// Ends its waits.
    wake: Arc<Notify>,
    /// The waits before heals, and when the last one ended.
    pace: Backoff,
    waited: Duration,
    ended: Option<Instant>,
}

impl std::fmt::Debug for Healer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Healer")
    }
}

impl Healer {
    pub(crate) fn new(
        table: Arc<dyn Table>,
        tasks: Tasks,
        patience: Duration,
        liveness: Arc<dyn Liveness>,
    ) -> Self {
        Self {
            table,
            tasks,
            patience,
            liveness,
            connections: Mutex::default(),
            looking: AtomicBool::new(false),
        }
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<String, Watched>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection was granted.
    pub(crate) fn granted(
        self: &Arc<Self>,
        id: String,
        factory: Factory<Connections>,
        connection: &Connection,
    ) {
        let mut connections = self.connections();
        let watched = connections.entry(id).or_insert_with(|| Watched {
            factory: factory.clone(),
            connection: Connection::default(),
            told: None,
            healing: false,
            wake: Arc::default(),
            pace: Backoff::new(RETRY.0, RETRY.1),
            waited: Duration::ZERO,
            ended: None,
        });
        // That another endpoint is wanted was said of the one before, perhaps more than once.
        let left = serving(&watched.connection) != serving(connection);
        if left && watched.told == Some(Word::Move) {
            watched.told = None;
        }
        watched.factory = factory;
        watched.connection.clone_from(connection);
        drop(connections);
        if let Some(every) = self.liveness.every()
            && !self.looking.swap(true, Ordering::Relaxed)
        {
            let healer = Arc::clone(self);
            self.tasks.spawn(async move { healer.look(every).await });
        }
    }

    pub(crate) fn forget(&self, id: &str) {
        self.connections().remove(id);
        self.liveness.forget(id);
    }

    /// Looks at every connection that nobody heals, for ever.
    async fn look(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let calm: Vec<(String, Connection)> = self
                .connections()
                .iter()
                .filter(|(_, watched)| !watched.healing)
                .map(|(id, watched)| (id.clone(), watched.connection.clone()))
                .collect();
            let looks = futures_util::stream::iter(calm);
            looks
                .for_each_concurrent(LOOKS_AT_ONCE, |(id, connection)| {
                    let healer = &self;
                    async move {
                        if healer.liveness.look(&connection).await == Flow::Silent {
                            tracing::info!(id, "no packets come from the far end");
                            healer.told(&id, Word::Down);
                        }
                    }
                })
                .await;
        }
    }

    /// A hop further on says so, with the connection as it shows it, unless that is of an endpoint
    /// that the connection has left.
    pub(crate) fn heard(self: &Arc<Self>, id: &str, change: Change, shown: Option<&Connection>) {
        let connections = self.connections();
        let granted = connections.get(id).map(|watched| &watched.connection);
        let Some(granted) = granted.filter(|granted| !is_of_before(shown, granted)) else {
            return;
        };
        let word = Word::of(change, shown, granted);
        drop(connections);
        self.told(id, word);
    }

    /// A refresh was refused since the endpoint is in no registry; a heal finds that by itself.
    pub(crate) fn unregistered(self: &Arc<Self>, id: &str) {
        let calm = |watched: &Watched| !watched.healing;
        let doubt = self.connections().get(id).is_some_and(calm);
        if doubt {
            self.told(id, Word::Refresh);
        }
    }

    /// Somebody says that something has become of a connection.
    fn told(self: &Arc<Self>, id: &str, word: Word) {
        let mut connections = self.connections();
        let Some(watched) = connections.get_mut(id) else {
            return;
        };
        watched.told = watched.told.max(Some(word));
        if std::mem::replace(&mut watched.healing, true) {
            watched.wake.notify_one();
            return;
        }
        let least = HELPED.0.max(watched.waited * HELPED.1);
        let helped = watched.ended.is_none_or(|ended| ended.elapsed() >= least);
        let before = if helped {
            watched.pace.reset();
            Duration::ZERO
        } else {
            watched.pace.next_wait()
        };
        watched.waited = before;
        drop(connections);
        tracing::info!(id, change = ?word, "healing");
        let (healer, id) = (Arc::clone(self), id.to_owned());
        self.tasks.spawn(async move {
            tokio::time::sleep(before).await;
            healer.heal(&id).await;
        });
    }

    async fn heal(&self, id: &str) {
        let began = Instant::now();
        let (mut known, mut reselect) = (Known::default(), false);
        let (mut short, mut calm) = (Backoff::new(RETRY.0, RETRY.1), Backoff::new(CALM.0, CALM.1));
        while let Some(turn) = self.turn(id) {
            let mut wait = None;
            if let Some(word) = turn.told {
                known.told(word);
                if known.in_doubt() {
                    known.found(self.liveness.ask(&turn.connection).await);
                }
            }
            match self.attempt(id, &turn, known.ask()).await {
                Ok(endpoint) => {
                    reselect |= known.ask() == Ask::Another;
                    let Some(next) = self.ended(id).await else {
                        let took_ms = began.elapsed().as_millis();
                        tracing::info!(id, endpoint, took_ms, reselect, "healed");
                        return;
                    };
                    known = next;
                }
                Err(error) => {
                    let reselect = known.ask() == Ask::Another;
                    tracing::warn!(id, %error, reselect, "heal failed, trying again");
                    // What is known to be broken is asked for again whatever its packets say later.
                    let patience = match known.calm() {
                        true => Duration::MAX,
                        false => *wait.insert(short.next_wait()),
                    };
                    let asked = Instant::now();
                    let flow = timeout(patience, self.liveness.ask(&turn.connection)).await;
                    known.refused(error.code, flow.unwrap_or(Flow::Unknown), Instant::now());
                    wait = wait.map(|wait| wait.saturating_sub(asked.elapsed()));
                }
            }
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None if known.calm() => turn.rest(calm.next_wait()).await,
                None => tokio::time::sleep(short.next_wait()).await,
            }
        }
    }

    /// What the heal of this connection has to go by; `None` when the connection has ended.
    fn turn(&self, id: &str) -> Option<Turn> {
        let mut connections = self.connections();
        let watched = connections.get_mut(id)?;
        Some(Turn {
            told: watched.told.take(),
            factory: watched.factory.clone(),
            connection: watched.connection.clone(),
            wake: Arc::clone(&watched.wake),
        })
    }

    /// The heal ends, unless something was said before it could: what is known of that then.
    async fn ended(&self, id: &str) -> Option<Known> {
        let connection = {
            let mut connections = self.connections();
            let watched = connections.get_mut(id)?;
            match watched.told.take() {
                None => {
                    watched.end();
                    return None;
                }
                Some(Word::Down) => watched.connection.clone(),
                Some(word) => {
                    let mut known = Known::default();
                    known.told(word);
                    return Some(known);
                }
            }
        };
        let known = Known::granted_in_doubt(self.liveness.ask(&connection).await);
        let mut connections = self.connections();
        let watched = connections.get_mut(id)?;
        if known.is_none() && watched.told.is_none() {
            watched.end();
            return None;
        }
        Some(known.unwrap_or_default())
    }

    /// Asks once; which endpoint serves then, unless the connection has ended.
    async fn attempt(&self, id: &str, turn: &Turn, ask: Ask) -> Result<Option<String>, Error> {
        let another = ask == Ask::Another;
        let deadline = Instant::now() + self.patience;
        let shown = self.table.get(id).map(|known| known.context);
        let mut left = IPContext::default();
        let change = |request: &mut NetworkServiceRequest| {
            left.clone_from(&request.connection.context.ip_context);
            prepare(request, another);
        };
        let Some(mut healed) = turn.factory.again(deadline, change).await? else {
            return Ok(None);
        };
        let before = &turn.connection.network_service_endpoint_name;
        if another || healed.network_service_endpoint_name != *before {
            healed = moved(&turn.factory, deadline, &left, healed).await;
        }
        // Watchers learn that addresses or MTU are others now: they must ask again to get them.
        if shown.is_some_and(|shown| shown != healed.context) {
            self.table.change(id, &mut |known| {
                known.state = State::REFRESH_REQUESTED.into();
                true
            });
        }
        Ok(Some(healed.network_service_endpoint_name))
    }
}

impl Watched {
    fn end(&mut self) {
        self.healing = false;
        self.ended = Some(Instant::now());
    }
}

/// One look at what there is to heal.
struct Turn {
    told: Option<Word>,
    factory: Factory<Connections>,
    connection: Connection,
    wake: Arc<Notify>,
}

impl Turn {
    /// Waits; what is said meanwhile ends a long wait, and never one that keeps this from being a
    /// hot loop.
    async fn rest(&self, wait: Duration) {
        let least = wait.min(CALM_AT_LEAST);
        tokio::time::sleep(least).await;
        tokio::select! {
            biased;
            () = self.wake.notified() => {}
            () = tokio::time::sleep(wait - least) => {}
        }
    }
}

/// Asks once more where the new endpoint has its own addresses and the old one's are still there.
async fn moved(
    factory: &Factory<Connections>,
    deadline: Instant,
    left: &IPContext,
    healed: Connection,
) -> Connection {
    let Some(own) = without(left, &healed.context.ip_context) else {
        return healed;
    };
    let change = |request: &mut NetworkServiceRequest| {
        let connection = request.connection.get_or_insert_default();
        connection.context.get_or_insert_default().ip_context = MessageField::some(own);
    };
    match factory.again(deadline, change).await {
        Ok(changed) => changed.unwrap_or(healed),
        Err(error) => {
            tracing::warn!(?factory, %error, "the addresses of the endpoint before stay");
            healed
        }
    }
}

/// Who serves it at its end, also behind functions.
fn serving(connection: &Connection) -> (&str, Option<&str>) {
    let last = connection.path.path_segments.last();
    let name = last.map(|segment| segment.name.as_str());
    (&connection.network_service_endpoint_name, name)
}

fn prepare(request: &mut NetworkServiceRequest, another: bool) {
    if another {
        let connection = request.connection.get_or_insert_default();
        connection.state = State::RESELECT_REQUESTED.into();
        connection.mechanism = MessageField::none();
        connection.network_service_endpoint_name.clear();
    }
}
