//! Whether the ways to other nodes carry packets: one light session for each node that tunnels
//! lead to, and none where there are no tunnels.
//!
//! A node that never answered is never lost: it may be another implementation's. A round in which
//! we could not ask, or came too late to hear, says nothing of anybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use nsm_api::connection::State;
use nsm_chain::elements::Table;
use tokio::time::{Instant, sleep_until};

use crate::Lives;

/// How often each node is asked.
pub const EVERY: Duration = Duration::from_millis(200);
/// How long an answer may take: with the rounds before it, loss is known 700 ms after it began.
pub const WAIT: Duration = Duration::from_millis(100);
/// Rounds in a row without an answer after which the way is lost.
pub const MISSES: u32 = 3;
/// A round that ends later than this was not heard in time: this process or machine stood still.
const LATE: Duration = Duration::from_millis(100);
/// While the way stays lost, connections that still go there are told again after this, and then
/// ever later: whoever had no other endpoint may have one by now.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How long nobody is asked after we could not.
const UNABLE: Duration = Duration::from_secs(5);

/// How long what asking needs is kept without tunnels: others may still ask us.
const LINGER: Duration = Duration::from_secs(1);
/// The same after a start: tunnels of the process before stand, and we may learn of them late.
const LINGER_AT_START: Duration = Duration::from_secs(60);

/// Asks other nodes by the way that tunnels take.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Asks each of these once; returns who answered within `wait`. Nobody to ask: gives up what
    /// asking needs.
    ///
    /// # Errors
    /// We could not ask, whatever becomes of the others.
    async fn ask(
        &self,
        peers: &BTreeSet<IpAddr>,
        wait: Duration,
    ) -> Result<BTreeSet<IpAddr>, String>;
}

/// What is known of one node.
#[derive(Debug, Default)]
struct Session {
    /// It has answered.
    up: bool,
    missed: u32,
    /// Lost: when its connections are told again, and how long after that.
    again: Option<(Instant, Duration)>,
}

impl Session {
    fn answered(&mut self) {
        *self = Self {
            up: true,
            ..Self::default()
        };
    }

    /// Whether its connections are to be told now.
    fn missed(&mut self, now: Instant) -> bool {
        self.missed = self.missed.saturating_add(1);
        if !self.up || self.missed < MISSES {
            return false;
        }
        let (due, wait) = self.again.unwrap_or((now, AGAIN.0));
        if due > now {
            return false;
        }
        self.again = Some((now + wait, (wait * 2).min(AGAIN.1)));
        true
    }
}

/// When what asking needs is given up.
#[derive(Debug, Default)]
struct Idle {
    /// There has been a tunnel.
    had: bool,
    since: Option<Instant>,
    done: bool,
}

impl Idle {
    /// Whether there is something to ask or to give up.
    fn asks(&mut self, tunnels: bool, now: Instant) -> bool {
        if tunnels {
            *self = Self {
                had: true,
                ..Self::default()
            };
            return true;
        }
        let since = *self.since.get_or_insert(now);
        let linger = if self.had { LINGER } else { LINGER_AT_START };
        let due = now.duration_since(since) >= linger;
        due && !std::mem::replace(&mut self.done, due)
    }
}

/// All sessions of a node.
pub(crate) struct Sessions {
    pub(crate) probe: Arc<dyn Probe>,
    pub(crate) lives: Arc<Lives>,
    pub(crate) table: Arc<dyn Table>,
}

impl Sessions {
    /// Asks for ever.
    pub(crate) async fn run(self) {
        let mut sessions: BTreeMap<IpAddr, Session> = BTreeMap::new();
        let mut next = Instant::now();
        let mut idle = Idle::default();
        let mut refused = false;
        loop {
            sleep_until(next).await;
            let peers = self.lives.remotes();
            sessions.retain(|peer, _| peers.contains(peer));
            if !idle.asks(!peers.is_empty(), next) {
                next += EVERY;
                continue;
            }
            let answered = self.probe.ask(&peers, WAIT).await;
            let now = Instant::now();
            let heard = now <= next + WAIT + LATE;
            next = (next + EVERY).max(now);
            match answered {
                Ok(answered) => {
                    refused = false;
                    self.round(&mut sessions, &peers, &answered, heard);
                }
                Err(error) => {
                    if !std::mem::replace(&mut refused, true) {
                        tracing::warn!(
                            error,
                            "the ways to other nodes cannot be asked: loss there is noticed later"
                        );
                    }
                    next = now + UNABLE;
                }
            }
        }
    }

    fn round(
        &self,
        sessions: &mut BTreeMap<IpAddr, Session>,
        peers: &BTreeSet<IpAddr>,
        answered: &BTreeSet<IpAddr>,
        heard: bool,
    ) {
        for peer in peers {
            let session = sessions.entry(*peer).or_default();
            if answered.contains(peer) {
                if session.again.is_some() {
                    tracing::info!(%peer, "the way to this node carries packets again");
                }
                session.answered();
            } else if heard && session.missed(Instant::now()) {
                tracing::warn!(%peer, "the way to this node carries no packets: its connections are down");
                self.lost(*peer);
            }
        }
    }

    fn lost(&self, peer: IpAddr) {
        for id in self.lives.through(peer) {
            // Also where it was told: a hop that was told in the instant in which a request of the
            // connection ended there may have missed it.
            self.table.change(&id, &mut |connection| {
                connection.state = State::DOWN.into();
                true
            });
        }
    }
}
