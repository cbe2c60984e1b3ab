//! What happens to interfaces without our doing: put right at once; what cannot be is told to
//! whoever watches, or closed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nsm_api::connection::State;
use nsm_chain::{Tasks, elements::Table};
use nsm_plan::{KeyDigest, NetnsId};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    Adopted, Counters, Kernel,
    lives::{Live, Lives},
};

/// How long a close may take that nobody waits for.
const CLOSE_PATIENCE: Duration = Duration::from_secs(15);

/// A connection repaired this often is left alone for a while: something works against us, and two
/// who correct each other must not take the machine.
const REPAIRS_AT_ONCE: u32 = 5;
/// That while at first; it doubles each time.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);
/// Connections of whose repairs something is remembered; those that nothing happened to for a while
/// make room.
const MAX_PATIENTS: usize = 4096;
/// And at most. Nothing done to it for so long, and its repairs start to count anew.
const MAX_REPAIR_PAUSE: Duration = Duration::from_secs(60);

/// Something of ours is not as it was, without our doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// A link of the plan with this key, or what fills it: removed, set down, changed.
    Link(KeyDigest),
    /// A namespace with everything in it.
    Namespace(NetnsId),
    /// Nobody knows what: more happened than could be heard.
    Missed,
}

/// Closes connections whose client's namespace is gone, and tells of the ones whose far end is.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) kernel: Arc<dyn Kernel>,
    pub(crate) lives: Arc<Lives>,
    pub(crate) table: Arc<dyn Table>,
    pub(crate) tasks: Tasks,
    pub(crate) mending: Arc<Mending>,
}

/// Who is being looked at, and what was repaired lately.
#[derive(Debug, Default)]
pub(crate) struct Mending(Mutex<BTreeMap<KeyDigest, Patient>>);

#[derive(Debug, Default)]
struct Patient {
    /// Somebody looks at it.
    busy: bool,
    /// Something happened to it since they began.
    again: bool,
    repairs: u32,
    last: Option<Instant>,
}

impl Patient {
    fn is_recent(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now - last <= MAX_REPAIR_PAUSE)
    }

    /// How long it is left alone from now on.
    fn pause(&mut self, now: Instant) -> Duration {
        if !self.is_recent(now) {
            self.repairs = 0;
        }
        match self.repairs.checked_sub(REPAIRS_AT_ONCE) {
            None => Duration::ZERO,
            Some(more) => (REPAIR_PAUSE * 2u32.saturating_pow(more)).min(MAX_REPAIR_PAUSE),
        }
    }
}

impl Mending {
    fn table(&self) -> MutexGuard<'_, BTreeMap<KeyDigest, Patient>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True where nobody looks at it yet; else whoever does will look again.
    fn begin(&self, key: KeyDigest, now: Instant) -> bool {
        let mut table = self.table();
        if table.len() >= MAX_PATIENTS {
            table.retain(|_, patient| patient.busy || patient.is_recent(now));
        }
        let patient = table.entry(key).or_default();
        patient.again = true;
        !std::mem::replace(&mut patient.busy, true)
    }

    /// How long to wait before the next look; `None` when there is nothing to look at.
    fn next(&self, key: KeyDigest, now: Instant) -> Option<Duration> {
        let mut table = self.table();
        let patient = table.get_mut(&key)?;
        if std::mem::take(&mut patient.again) {
            return Some(patient.pause(now));
        }
        patient.busy = false;
        if patient.repairs == 0 {
            table.remove(&key);
        }
        None
    }

    fn repaired(&self, key: KeyDigest, now: Instant) {
        let mut table = self.table();
        let patient = table.entry(key).or_default();
        patient.repairs = patient.repairs.saturating_add(1);
        patient.last = Some(now);
    }
}

impl Watch {
    /// Until the kernel's events end.
    pub(crate) async fn run(self, mut gone: mpsc::Receiver<Gone>) {
        while let Some(gone) = gone.recv().await {
            match gone {
                Gone::Link(key) => self.look(key),
                Gone::Namespace(netns) => self.namespace(netns),
                Gone::Missed => self.all(),
            }
        }
    }

    /// Looks at a connection, unless somebody does: they will look again.
    fn look(&self, key: KeyDigest) {
        if self.lives.get(key).is_some() && self.mending.begin(key, Instant::now()) {
            let watch = self.clone();
            self.tasks.spawn(async move {
                while let Some(pause) = watch.mending.next(key, Instant::now()) {
                    if !pause.is_zero() {
                        tracing::warn!(%key, ?pause, "repaired again and again: left alone for a while");
                        tokio::time::sleep(pause).await;
                    }
                    watch.link(key).await;
                }
            });
        }
    }

    /// Our own changes are told as well: what counts is what stands when nobody works on it.
    async fn link(&self, key: KeyDigest) {
        let Some(live) = self.lives.get(key) else {
            return;
        };
        let work = async {
            // What stands now may be another plan than before the turn.
            let live = self.lives.get(key)?;
            let found = self.kernel.repair(&live.plan).await;
            Some((live, found))
        };
        let deadline = Instant::now() + CLOSE_PATIENCE;
        let Ok(Some(Some((live, found)))) = live.factory.during(deadline, work).await else {
            return;
        };
        match found {
            Ok(Adopted::AsItWas) => {}
            Ok(Adopted::Repaired(what)) => {
                self.mending.repaired(key, Instant::now());
                let what = what.join("; ");
                tracing::warn!(id = live.id, what, "changed by somebody else: put right");
            }
            Ok(Adopted::Gone(netns)) => {
                // The near side's own event closes the connection.
                if live.near.is_none_or(|near| !netns.contains(&near)) {
                    self.down_if_broken(&live).await;
                }
            }
            Err(error) => {
                tracing::warn!(id = live.id, %error, "changed by somebody else: cannot be put right");
                self.down_if_broken(&live).await;
            }
        }
    }

    async fn down_if_broken(&self, live: &Live) {
        if self.kernel.stands(&live.plan).await == Some(false) {
            self.down(live);
        }
    }

    /// Looks at every connection.
    fn all(&self) {
        let lives = self.lives.all();
        let keys = |live: &Live| live.plan.links().next().map(|(id, _)| id.key);
        let keys: BTreeSet<KeyDigest> = lives.iter().filter_map(keys).collect();
        keys.into_iter().for_each(|key| self.look(key));
    }

    fn namespace(&self, netns: NetnsId) {
        for live in self
            .lives
            .all()
            .into_iter()
            .filter(|live| live.plan.namespaces().contains(&netns))
        {
            if live.near == Some(netns) {
                close(&live, &self.tasks);
            } else {
                self.down(&live);
            }
        }
    }

    fn down(&self, live: &Live) {
        live.broken();
        self.table.change(&live.id, &mut |connection| {
            let news = connection.state != State::DOWN;
            if news {
                tracing::info!(id = live.id, "an interface of this connection is gone");
                connection.state = State::DOWN.into();
            }
            news
        });
    }
}

fn close(live: &Live, tasks: &Tasks) {
    let factory = live.factory.clone();
    tasks.finish(async move {
        tracing::info!(?factory, "the client's namespace is gone: closing");
        if let Err(error) = factory.close(Instant::now() + CLOSE_PATIENCE).await {
            tracing::warn!(?factory, %error, "closing after the client's namespace went away");
        }
    });
}

/// Keeps the counters of every connection in its path segment, as often as `every`.
pub(crate) async fn meter(
    kernel: Arc<dyn Kernel>,
    lives: Arc<Lives>,
    table: Arc<dyn Table>,
    own: String,
    every: Duration,
) {
    loop {
        tokio::time::sleep(every).await;
        for live in lives.all() {
            let counters = kernel.counters(&live.plan).await;
            table.change(&live.id, &mut |connection| {
                write(connection, &own, &live.id, &counters)
            });
        }
    }
}

/// Upstream's names of metrics (wire contract 10), for our own segment. Whether any has changed.
fn write(
    connection: &mut nsm_api::connection::Connection,
    own: &str,
    id: &str,
    counters: &[(&'static str, Counters)],
) -> bool {
    let path = connection.path.get_or_insert_default();
    let Some(segment) = path
        .path_segments
        .iter_mut()
        .find(|segment| segment.name == own && segment.id == id)
    else {
        return false;
    };
    let before = segment.metrics.clone();
    for (side, count) in counters {
        let rows = [
            ("rx_bytes", count.rx_bytes),
            ("tx_bytes", count.tx_bytes),
            ("rx_packets", count.rx_packets),
            ("tx_packets", count.tx_packets),
            ("drops", count.drops),
        ];
        for (what, value) in rows {
            segment
                .metrics
                .insert(format!("{side}_{what}"), value.to_string());
        }
    }
    segment.metrics != before
}
