//! Follows what next hops say of our connections: one monitor stream a peer, whatever the number of
//! connections that go through it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering},
    time::Duration,
};

use nsm_api::connection::{Connection, MonitorScopeSelector, PathSegment};
use tokio::time::Instant;

use crate::{Backoff, Hop, Tasks, Transport, elements::Downstream};

mod events;
mod presence;
mod resume;
mod shown;
mod stream;

pub use presence::Stay;
use shown::Word;
use stream::Stream;

/// How long a hop that is no endpoint may be away before its connections are asked for again: a
/// restart of a manager or a forwarder takes less, and their packets flow meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same of an endpoint: nobody but whoever asks for its connections again can tell whether its
/// process alone is away, and packets flow, or all of it.
const ENDPOINT_PATIENCE: Duration = Duration::from_millis(200);
/// The first and the longest wait between two attempts to reach a hop that went away.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long a hop that refuses to be watched is left alone.
const REFUSED: Duration = Duration::from_secs(10);
/// How long one attempt may take.
const DIAL: Duration = Duration::from_secs(2);

/// How long a peer is followed after nothing goes through it any more: connections that come and go
/// one after another share one stream. Shorter than the pool keeps an idle link.
const LINGER: Duration = Duration::from_secs(1);

/// What became of a connection further on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Its data path is known to be broken: another one is needed. That a control connection is
    /// lost is no such knowledge.
    Down,
    /// It must be asked for again, as it is.
    Refresh,
    /// It works, and another endpoint is wanted for it if there is one.
    Move,
}

/// Where changes go.
pub trait Sink: Send + Sync {
    /// The connection with this id (our own segment's) has changed: as the next hop shows it, where
    /// it said so. That may be of the past, see [`is_of_before`].
    fn changed(&self, id: &str, change: Change, shown: Option<&Connection>);

    /// The next hop shows the connection with this id as it has it now.
    fn seen(&self, id: &str, connection: &Connection);
}

/// Whether what a next hop shows is of an endpoint that the connection has left since: an event may
/// have been under way while the connection moved. An endpoint further on, behind a function that
/// the connection goes through, is in its path.
#[must_use]
pub fn is_of_before(shown: Option<&Connection>, granted: &Connection) -> bool {
    let now = &granted.network_service_endpoint_name;
    shown.is_some_and(|shown| {
        let then = &shown.network_service_endpoint_name;
        let mut path = granted.path.path_segments.iter();
        !then.is_empty() && !now.is_empty() && then != now && path.all(|hop| hop.name != *then)
    })
}

/// See the module.
#[derive(Clone)]
pub struct Follower(Arc<Inner>);

struct Inner {
    name: String,
    transport: Arc<dyn Transport>,
    tasks: Tasks,
    sink: Arc<dyn Sink>,
    staying: OnceLock<presence::Staying>,
    state: Mutex<Followed>,
}

#[derive(Default)]
struct Followed {
    /// Which peer a connection goes through.
    peers: BTreeMap<String, String>,
    /// What goes through a peer.
    streams: BTreeMap<String, Arc<Stream>>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Follower({})", self.0.name)
    }
}

// === impl Follower ===

impl Follower {
    /// A follower for the hop with this name.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        transport: Arc<dyn Transport>,
        tasks: Tasks,
        sink: Arc<dyn Sink>,
    ) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            transport,
            tasks,
            sink,
            staying: OnceLock::new(),
            state: Mutex::default(),
        }))
    }

    /// From now on tells what the peer says of this connection. `last`: the peer is its endpoint.
    pub fn follow(&self, id: &str, next: Downstream, hop: Arc<dyn Hop>, last: bool) {
        self.join(id, next, hop, last, false);
    }

    fn join(&self, id: &str, next: Downstream, hop: Arc<dyn Hop>, last: bool, resumed: bool) {
        let key = format!("{next} {}", hop.peer());
        let mut state = self.0.state();
        if resumed && !state.is_resuming(id) {
            return;
        }
        if let Some(before) = state
            .peers
            .insert(id.to_owned(), key.clone())
            .filter(|before| *before != key)
        {
            state.leave(&before, id);
        }
        if let Some(stream) = state.streams.get(&key) {
            stream.last.fetch_or(last, Ordering::Relaxed);
            stream.want(next);
            let stream = Arc::clone(stream);
            let word = {
                let mut ids = stream.ids();
                ids.insert(id);
                if resumed { ids.expect(id) } else { Word::None }
            };
            drop(state);
            match word {
                Word::OfOthers => stream.doubted.notify_one(),
                Word::Shown(Some(change)) => self.0.sink.changed(id, change, None),
                Word::Shown(None) | Word::None => {}
            }
            return;
        }
        let stream = Arc::new(Stream::new(next, last));
        stream.ids().insert(id);
        state.streams.insert(key.clone(), Arc::clone(&stream));
        drop(state);
        self.start(key, stream, hop, resumed);
    }

    fn start(&self, key: String, stream: Arc<Stream>, hop: Arc<dyn Hop>, resumed: bool) {
        let inner = Arc::clone(&self.0);
        self.0
            .tasks
            .spawn(async move { inner.run(key, stream, hop, resumed).await });
    }

    /// The connection has ended here.
    pub fn forget(&self, id: &str) {
        let mut state = self.0.state();
        if let Some(key) = state.peers.remove(id) {
            state.leave(&key, id);
        }
    }
}

impl Followed {
    fn leave(&mut self, key: &str, id: &str) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        stream.touch();
        if stream.ids().remove(id) {
            stream.emptied.notify_one();
        }
    }
}

// === impl Inner ===

impl Inner {
    fn state(&self) -> MutexGuard<'_, Followed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows one peer until nothing goes through it any more.
    async fn run(&self, key: String, stream: Arc<Stream>, hop: Arc<dyn Hop>, resumed: bool) {
        tokio::select! {
            biased;
            () = self.follow_all(&stream, hop, resumed) => {}
            () = self.idle(&key, &stream) => {}
        }
    }

    /// Follows one peer for ever.
    async fn follow_all(&self, stream: &Stream, mut hop: Arc<dyn Hop>, mut resumed: bool) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let began = Instant::now();
            self.follow_one(stream, hop.as_ref(), resumed).await;
            hop = self.reconnect(stream).await;
            resumed = true;
            // A peer that is there and ends every stream must not be asked in a hot loop.
            if began.elapsed() < RETRY.1 {
                tokio::time::sleep(backoff.next_wait()).await;
            } else {
                backoff.reset();
            }
        }
    }

    /// Waits until nothing has gone through the peer for a while.
    async fn idle(&self, key: &str, stream: &Stream) {
        loop {
            while !stream.ids().is_empty() {
                stream.emptied.notified().await;
            }
            tokio::time::sleep(Follower::pause(self.staying.get())).await;
            if self.finished(key, stream) {
                return;
            }
        }
    }

    /// Whether nothing goes through the peer, so that it is followed no longer.
    fn finished(&self, key: &str, stream: &Stream) -> bool {
        let mut state = self.state();
        let finished = stream.ids().is_empty() && stream.is_quiet(self.staying.get());
        if finished {
            state.streams.remove(key);
        }
        finished
    }

    async fn follow_one(&self, stream: &Stream, hop: &dyn Hop, resumed: bool) {
        let segment = PathSegment {
            name: self.name.clone(),
            ..Default::default()
        };
        let selector = MonitorScopeSelector {
            path_segments: vec![segment],
            ..Default::default()
        };
        stream.ids().begin(resumed);
        match hop.monitor(selector).await {
            Ok(events) => {
                stream.presence().since = Some(Instant::now());
                tokio::select! {
                    biased;
                    () = self.events(stream, events) => {}
                    () = hop.lost() => {}
                    () = presence::muted(self.staying.get()) => {}
                }
                stream.presence().since = None;
            }
            Err(error) => {
                tracing::debug!(hop = %stream.next(), %error, "cannot watch the next hop");
                // It is there and refuses: for now, as far as anybody knows.
                let wait = error.retry_after.unwrap_or(REFUSED);
                let _lost = tokio::time::timeout(wait, hop.lost()).await;
            }
        }
    }

    fn tell(&self, stream: &Stream, id: &str, change: Change, shown: Option<&Connection>) {
        if stream.ids().contains(id) {
            self.sink.changed(id, change, shown);
        }
    }

    fn tell_all(&self, stream: &Stream, change: Change) {
        let ids = stream.ids().all();
        for id in ids {
            self.sink.changed(&id, change, None);
        }
    }

    /// The peer again, however long it is away. Whoever asks for its connections then is told once.
    async fn reconnect(&self, stream: &Stream) -> Arc<dyn Hop> {
        let patience = if stream.last.load(Ordering::Relaxed) {
            ENDPOINT_PATIENCE
        } else {
            PATIENCE
        };
        let lost = Instant::now();
        let mut told = false;
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut unhurried = presence::unhurried();
        loop {
            let deadline = Instant::now() + DIAL;
            // Where it was, or where it is registered by now.
            let next = stream.next();
            match next.reach(self.transport.as_ref(), deadline).await {
                Ok(hop) => return hop,
                Err(error) => {
                    tracing::debug!(hop = %next, %error, "the next hop is away");
                }
            }
            if !told && lost.elapsed() >= patience {
                told = true;
                self.tell_all(stream, Change::Refresh);
            }
            let wanted = !stream.ids().is_empty();
            let backoff = if wanted { &mut backoff } else { &mut unhurried };
            // Whoever is about to ask has just reached it.
            let _wanted = tokio::time::timeout(backoff.next_wait(), stream.wanted.notified()).await;
        }
    }
}
