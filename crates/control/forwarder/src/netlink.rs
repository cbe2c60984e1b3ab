//! The kernel itself, through netlink.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use nsm_kernel::{
    Adopted, ApplyError, Executor, NetnsError, NetnsFd, NetnsRef,
    events::{Event, Listener},
    stats::{LinkReader, LinkState},
};
use nsm_model::url::InodeUrl;
use nsm_plan::{Changes, End, KeyDigest, Netns, NetnsId, Plan, Role, alias_key};
use tokio::sync::mpsc;

use crate::Gone;
use crate::kernel::{Counters, Kernel, KernelError, Namespaces};

/// Events that wait for the forwarder: beyond them the event thread waits, and the kernel's own
/// queue tells of what it lost.
const MAX_GONE: usize = 1024;

/// Applies plans by netlink, on threads that may block.
#[derive(Debug, Clone)]
pub struct Netlink(Arc<Executor>);

impl Netlink {
    /// The kernel behind this executor.
    #[must_use]
    pub fn new(executor: Arc<Executor>) -> Self {
        Self(executor)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Executor) -> Result<T, KernelError> + Send + 'static,
    ) -> Result<T, KernelError> {
        let executor = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&executor))
            .await
            .unwrap_or_else(|error| {
                Err(KernelError::Refused(format!(
                    "the kernel's worker was lost: {error}"
                )))
            })
    }
}

fn told(error: ApplyError) -> KernelError {
    match error {
        ApplyError::VniInUse { vni, .. } => KernelError::VniInUse(vni),
        ApplyError::NameInUse { .. } => KernelError::NameInUse(error.to_string()),
        ApplyError::Netns(NetnsError::NotNetns { .. }) => {
            KernelError::NotANamespace(error.to_string())
        }
        ApplyError::RouteInUse { .. }
        | ApplyError::MissingNetns(_)
        | ApplyError::Netns(_)
        | ApplyError::Kernel(_) => KernelError::Refused(error.to_string()),
    }
}

fn descriptors(namespaces: &Namespaces) -> Result<BTreeMap<NetnsId, NetnsFd>, KernelError> {
    let mut opened = BTreeMap::new();
    for (id, descriptor) in namespaces {
        let copy = descriptor.try_clone().map_err(|error| {
            KernelError::Refused(format!("copying the descriptor of {id}: {error}"))
        })?;
        let netns = NetnsFd::new(copy).map_err(|error| {
            let inode = InodeUrl {
                dev: id.dev,
                ino: id.ino,
            };
            KernelError::NotANamespace(format!("mechanism parameter inodeURL={inode}: {error}"))
        })?;
        opened.insert(*id, netns);
    }
    Ok(opened)
}

#[async_trait]
impl Kernel for Netlink {
    async fn apply(
        &self,
        changes: Changes,
        namespaces: Namespaces,
    ) -> Result<Vec<NetnsRef>, KernelError> {
        self.blocking(move |executor| {
            let opened = descriptors(&namespaces)?;
            let applied = executor.change(&changes, &opened).map_err(told)?;
            Ok(applied.namespaces)
        })
        .await
    }

    async fn adopt(&self, plan: &Plan, places: &[NetnsRef]) -> Result<Adopted, KernelError> {
        let (plan, places) = (plan.clone(), places.to_vec());
        self.blocking(move |executor| executor.adopt(&plan, &places).map_err(told))
            .await
    }

    async fn repair(&self, plan: &Plan) -> Result<Adopted, KernelError> {
        let plan = plan.clone();
        self.blocking(move |executor| executor.repair(&plan).map_err(told))
            .await
    }

    async fn unknown(&self, known: BTreeSet<KeyDigest>) -> Result<usize, KernelError> {
        self.blocking(move |executor| executor.unknown(&known).map_err(told))
            .await
    }

    fn mark(&self, on: bool) {
        self.0.mark(on);
    }

    async fn sweep(&self, known: BTreeSet<KeyDigest>) -> Result<usize, KernelError> {
        self.blocking(move |executor| executor.sweep(&known).map_err(told))
            .await
    }

    async fn undo(&self, plan: Plan) -> Result<(), KernelError> {
        self.blocking(move |executor| executor.undo(&plan).map_err(told))
            .await
    }

    async fn stands(&self, plan: &Plan) -> Option<bool> {
        let ends = ends(plan);
        let wanted = ends.len();
        let found = self.read(ends).await?;
        Some(found.len() == wanted && found.iter().all(|(_, link)| link.up))
    }

    async fn counters(&self, plan: &Plan) -> Vec<(&'static str, Counters)> {
        let found = self.read(ends(plan)).await.unwrap_or_default();
        found
            .into_iter()
            .map(|(side, link)| (side, counted(&link.counters)))
            .collect()
    }
}

fn ends(plan: &Plan) -> Vec<End> {
    plan.links()
        .flat_map(|(_, link)| link.ends())
        .cloned()
        .collect()
}

impl Netlink {
    /// Every end that is still there, as the kernel shows it; `None` when it could not be asked.
    async fn read(&self, ends: Vec<End>) -> Option<Vec<Found>> {
        let executor = Arc::clone(&self.0);
        let read = tokio::task::spawn_blocking(move || read(&executor, &ends));
        read.await.ok().flatten()
    }
}

/// An end of a plan's link: upstream's word for its side, and the link.
type Found = (&'static str, LinkState);

/// By the number of its namespace and its name; one that is gone, or somebody else's by now, is
/// left out.
fn read(executor: &Executor, ends: &[End]) -> Option<Vec<Found>> {
    let wanted: Vec<_> = ends
        .iter()
        .filter_map(|end| {
            let Netns::Id(id) = end.netns else {
                return None;
            };
            let side = match end.role {
                Role::Client => "client",
                Role::Endpoint => "server",
            };
            Some((
                side,
                executor.number(id)?,
                end.name.to_string(),
                end.alias.clone(),
            ))
        })
        .collect();
    let found = executor.workers().run(move |_| {
        let mut reader = LinkReader::open().ok()?;
        let mut found = Vec::with_capacity(wanted.len());
        for (side, nsid, name, alias) in wanted {
            let link = reader.link(Some(nsid), &name).ok()?;
            found.extend(
                link.filter(|link| link.alias == alias)
                    .map(|link| (side, link)),
            );
        }
        Some(found)
    });
    found.ok().flatten()
}

fn counted(counters: &nsm_kernel::stats::Counters) -> Counters {
    Counters {
        rx_bytes: counters.rx_bytes,
        tx_bytes: counters.tx_bytes,
        rx_packets: counters.rx_packets,
        tx_packets: counters.tx_packets,
        drops: counters.rx_drops + counters.tx_drops,
    }
}

/// Turns the kernel's events into ours until the listener or the reader ends.
fn hear(executor: &Executor, events: &std::sync::mpsc::Receiver<Event>, out: &mpsc::Sender<Gone>) {
    while let Ok(event) = events.recv() {
        let gone = match event {
            Event::NamespaceGone { nsid } => {
                let Some(id) = executor.namespace(nsid) else {
                    continue;
                };
                executor.forget(id);
                Gone::Namespace(id)
            }
            Event::LinkGone { nsid, index, alias } | Event::LinkDown { nsid, index, alias } => {
                let expected = executor.expected(nsid, index).map(|(key, _)| key);
                let Some(key) = expected.or_else(|| alias_key(&alias)) else {
                    continue;
                };
                Gone::Link(key)
            }
            Event::LinkChanged { nsid, index, look } => match executor.expected(nsid, index) {
                Some((key, end)) if !look.is(&end) => Gone::Link(key),
                _ => continue,
            },
            Event::Emptied { nsid, index } => match executor.expected(nsid, index) {
                Some((key, _)) => Gone::Link(key),
                None => continue,
            },
            Event::Missed => {
                tracing::warn!(
                    "the kernel told of more changes than could be read: looking at all"
                );
                Gone::Missed
            }
        };
        if out.blocking_send(gone).is_err() {
            return;
        }
    }
}

impl Netlink {
    /// What vanishes without our doing, from now on; the listener ends the stream when it is
    /// dropped.
    ///
    /// # Errors
    /// The kernel does not tell us.
    pub fn listen(&self) -> Result<(Listener, mpsc::Receiver<Gone>), KernelError> {
        let (listener, events) = Listener::start(self.0.workers())
            .map_err(|error| KernelError::Refused(error.to_string()))?;
        let (send, receive) = mpsc::channel(MAX_GONE);
        let executor = Arc::clone(&self.0);
        let thread = std::thread::Builder::new().name("kernel-events".to_owned());
        thread
            .spawn(move || hear(&executor, &events, &send))
            .map_err(|error| KernelError::Refused(format!("starting the event thread: {error}")))?;
        Ok((listener, receive))
    }
}
