//! What happens to interfaces without our doing: told to whoever watches, or closed.

use std::{sync::Arc, time::Duration};

use nsm_api::connection::State;
use nsm_chain::{Tasks, elements::Table};
use nsm_plan::{KeyDigest, NetnsId};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    Counters, Kernel,
    lives::{Live, Lives},
};

/// How long a close may take that nobody waits for.
const CLOSE_PATIENCE: Duration = Duration::from_secs(15);

/// Something of ours has vanished without our doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// A link of the plan with this key: removed, or set down.
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
}

impl Watch {
    /// Until the kernel's events end.
    pub(crate) async fn run(self, mut gone: mpsc::Receiver<Gone>) {
        while let Some(gone) = gone.recv().await {
            match gone {
                Gone::Link(key) => {
                    let watch = self.clone();
                    self.tasks.spawn(async move { watch.link(key).await });
                }
                Gone::Namespace(netns) => self.namespace(netns),
                Gone::Missed => {
                    let watch = self.clone();
                    self.tasks.spawn(async move { watch.all().await });
                }
            }
        }
    }

    /// Our own changes are told as well: what counts is what stands when nobody works on it.
    async fn link(&self, key: KeyDigest) {
        let Some(live) = self.lives.get(key) else {
            return;
        };
        if live
            .factory
            .settled(Instant::now() + CLOSE_PATIENCE)
            .await
            .is_err()
        {
            return;
        }
        if let Some(live) = self.lives.get(key)
            && self.kernel.stands(&live.plan).await == Some(false)
        {
            self.down(&live);
        }
    }

    /// Looks at every connection, one after the other.
    async fn all(&self) {
        for live in self.lives.all() {
            if let Some((key, _)) = live.plan.links().next() {
                self.link(key.key).await;
            }
        }
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
        let Some(mut connection) = self.table.get(&live.id) else {
            return;
        };
        if connection.state != State::DOWN {
            tracing::info!(id = live.id, "an interface of this connection is gone");
            connection.state = State::DOWN.into();
            self.table.update(connection);
        }
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
            if let Some(mut connection) = table.get(&live.id)
                && write(&mut connection, &own, &live.id, &counters)
            {
                table.update(connection);
            }
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
