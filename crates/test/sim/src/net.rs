//! The wire: who listens where, and what becomes of a message on its way.
//!
//! A call is two messages, the way there and the way back; each waits, and may be lost, by chance.
//! What is lost breaks the stream that it was on, as a broken TCP connection does: nobody gets half
//! of anything, and whoever asked does not know whether it was done. Calls and monitor streams of
//! two processes overtake each other; the events of one stream do not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use nsm_chain::{Chain, Code, Connections, Endpoints, Error, Services, Target};
use nsm_model::spiffe::SpiffeId;
use nsm_rpc::{Find, monitor};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{chance::Chance, keys::Keys, log::Log, namespaces::Pipe, process::Process};

mod hop;
mod registrar;
mod registry;

pub use hop::End;
pub use registrar::ManagerEnd;
pub use registry::ToRegistry;

/// How long a connection stands between two nodes that do not hear each other: TCP's own probes and
/// its timeout of what nobody acknowledges, as `nsm-rpc` sets them.
const GIVEN_UP: Duration = Duration::from_secs(11);
/// How long a connection may take to come up, as by default.
const DIALED: Duration = Duration::from_secs(3);
/// How often a message that has no way looks again.
const LOOK: Duration = Duration::from_millis(100);

/// What a process serves.
pub struct Served {
    /// Who it is.
    pub id: SpiffeId,
    /// Connections.
    pub connections: Option<Chain<Connections>>,
    /// Who watches them.
    pub monitor: Option<monitor::Service>,
    /// Services, registered and found.
    pub services: Option<(Chain<Services>, Arc<dyn Find<Services>>)>,
    /// Endpoints, registered and found.
    pub endpoints: Option<(Chain<Endpoints>, Arc<dyn Find<Endpoints>>)>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Served({})", self.id)
    }
}

/// How the wire treats messages, for so long.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Messages of a thousand that wait for up to three seconds.
    pub slow: u64,
    /// Messages of a thousand that are lost with their connection.
    pub lost: u64,
}

/// All wires of a run; a clone is the same one.
#[derive(Clone)]
pub struct Net(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    chance: Chance,
    log: Log,
}

#[derive(Default)]
struct State {
    servers: BTreeMap<String, (Arc<Process>, Arc<Served>)>,
    apart: BTreeSet<(usize, usize)>,
    /// When two nodes could hear each other again the last time.
    together: BTreeMap<(usize, usize), Instant>,
    weather: Weather,
    requests: u64,
    /// Every connection between two nodes.
    far: Vec<Weak<Link>>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Net({} addresses)", self.state().servers.len())
    }
}

/// One connection between two processes.
#[derive(Debug)]
pub struct Link {
    pub(crate) from: Arc<Process>,
    pub(crate) to: Arc<Process>,
    /// Who answers.
    pub(crate) peer: SpiffeId,
    /// Owned by the wires alone: what it stands on has connections of its own, and a run would keep
    /// itself for ever.
    served: Weak<Served>,
    pub(crate) url: String,
    /// Cancelled when it breaks.
    pub(crate) broken: CancellationToken,
    pub(crate) pipe: Arc<Pipe>,
}

impl Link {
    /// Ends when the connection does: it broke, or one of its processes ended.
    pub(crate) async fn lost(&self) {
        tokio::select! {
            biased;
            () = self.broken.cancelled() => {}
            () = self.to.life().cancelled() => {}
            () = self.from.life().cancelled() => {}
        }
    }

    pub(crate) fn served(&self) -> Result<Arc<Served>, Error> {
        self.served.upgrade().ok_or_else(|| self.away())
    }

    pub(crate) fn stands(&self) -> bool {
        !self.broken.is_cancelled() && self.to.alive() && self.from.alive()
    }

    pub(crate) fn away(&self) -> Error {
        away(&self.url)
    }
}

fn away(url: &str) -> Error {
    Error::new(Code::Unavailable, format!("nobody answers at {url}"))
}

impl Net {
    /// Wires without anybody on them.
    #[must_use]
    pub fn new(chance: Chance, log: Log) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            chance,
            log,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process listens here from now on.
    pub fn listen(&self, url: &str, process: &Arc<Process>, served: &Arc<Served>) {
        let server = (Arc::clone(process), Arc::clone(served));
        self.state().servers.insert(url.to_owned(), server);
    }

    /// The run is over: nobody serves any more, so that nothing of it is left.
    pub fn end(&self) {
        let servers = std::mem::take(&mut self.state().servers);
        drop(servers);
    }

    /// Messages fare like this from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// Two nodes do not hear each other from now on, or do again.
    pub fn part(&self, a: usize, b: usize, apart: bool) {
        let pair = (a.min(b), a.max(b));
        let mut state = self.state();
        if !apart {
            if state.apart.remove(&pair) {
                state.together.insert(pair, Instant::now());
            }
            return;
        }
        state.apart.insert(pair);
        drop(state);
        let net = self.clone();
        tokio::spawn(async move {
            sleep(GIVEN_UP).await;
            if net.are_apart(a, b) {
                net.give_up(pair);
            }
        });
    }

    /// Breaks what stood between two nodes.
    fn give_up(&self, pair: (usize, usize)) {
        let mut state = self.state();
        state.far.retain(|link| link.strong_count() > 0);
        let far: Vec<_> = state.far.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        for link in far {
            let (a, b) = (link.from.node(), link.to.node());
            if (a.min(b), a.max(b)) == pair {
                link.broken.cancel();
            }
        }
    }

    /// How many Requests were sent on the wire.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    pub(crate) fn note(&self, what: &str, link: &Link, about: &str) {
        if what == "request" {
            self.state().requests += 1;
        }
        let from = link.from.name();
        self.0
            .log
            .note(format_args!("{from} {what} {} {about}", link.url));
    }

    /// Whether two nodes do not hear each other.
    #[must_use]
    pub fn are_apart(&self, a: usize, b: usize) -> bool {
        let state = self.state();
        !state.apart.is_empty() && state.apart.contains(&(a.min(b), a.max(b)))
    }

    /// Whether two nodes have not heard each other at any time since.
    #[must_use]
    pub fn parted_since(&self, a: usize, b: usize, since: Instant) -> bool {
        let pair = (a.min(b), a.max(b));
        let state = self.state();
        state.apart.contains(&pair) || state.together.get(&pair).is_some_and(|at| *at >= since)
    }

    /// A new connection.
    pub(crate) async fn dial(
        &self,
        from: &Arc<Process>,
        target: &Target,
        deadline: Instant,
    ) -> Result<Arc<Link>, Error> {
        let url = target.to_string();
        let dial = async {
            self.wait(0).await;
            let found = self.state().servers.get(&url).cloned();
            let (to, served) = found
                .filter(|(to, _)| to.alive())
                .ok_or_else(|| away(&url))?;
            while self.are_apart(from.node(), to.node()) {
                sleep(LOOK).await;
            }
            let link = Arc::new(Link {
                from: Arc::clone(from),
                to,
                peer: served.id.clone(),
                served: Arc::downgrade(&served),
                url: url.clone(),
                broken: CancellationToken::new(),
                pipe: Arc::new(Pipe::new(url.starts_with("unix:"))),
            });
            if link.from.node() != link.to.node() {
                self.state().far.push(Arc::downgrade(&link));
            }
            Ok(link)
        };
        let deadline = deadline.min(Instant::now() + DIALED);
        match tokio::time::timeout_at(deadline, dial).await {
            Ok(link) => link,
            Err(_) => Err(away(&url)),
        }
    }

    /// One message on its way.
    pub(crate) async fn carry(&self, link: &Link) -> Result<(), Error> {
        let weather = self.state().weather;
        self.wait(weather.slow).await;
        while self.are_apart(link.from.node(), link.to.node()) {
            if !link.stands() {
                return Err(link.away());
            }
            sleep(LOOK).await;
        }
        if weather.lost > 0 && self.0.chance.per_mille(weather.lost) {
            self.0
                .log
                .note(format_args!("lost {} {}", link.from.name(), link.url));
            link.broken.cancel();
        }
        if link.stands() {
            Ok(())
        } else {
            Err(link.away())
        }
    }

    /// How long it takes: mostly less than the clock can tell.
    async fn wait(&self, slow: u64) {
        let chance = &self.0.chance;
        if slow > 0 && chance.per_mille(slow) {
            sleep(chance.millis(10, 3000)).await;
            return;
        }
        match chance.below(10) {
            0..=4 => tokio::task::yield_now().await,
            5..=8 => sleep(Duration::from_millis(1)).await,
            _ => sleep(chance.millis(2, 5)).await,
        }
    }
}

/// An error as the other side of a wire gets it: whose blame it was is not told.
pub(crate) fn told(error: Error) -> Error {
    Error::new(error.code, error.message)
}

/// Everything that one process needs to call others.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The process.
    pub process: Arc<Process>,
    /// Its identity.
    pub keys: Arc<Keys>,
    /// The wires.
    pub net: Net,
}
