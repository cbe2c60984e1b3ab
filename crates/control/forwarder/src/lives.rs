//! The connections that have interfaces on this node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use nsm_chain::{Connections, Store, begin::Factory};
use nsm_plan::{KeyDigest, Link, NetnsId, Plan};

/// One of them.
#[derive(Debug, Clone)]
pub struct Live {
    /// Our own segment's id.
    pub id: String,
    /// What stands in the kernel.
    pub plan: Plan,
    /// The namespace of whoever asked, where that is on this node.
    pub near: Option<NetnsId>,
    /// The way to close it.
    pub factory: Factory<Connections>,
    pub(crate) store: Arc<Store>,
}

/// The plan that should stand does not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Broken;

impl Live {
    fn remotes(&self) -> impl Iterator<Item = IpAddr> {
        self.plan.links().filter_map(|(_, link)| match link {
            Link::Vxlan { tunnel, .. } => Some(tunnel.remote),
            Link::Veth { .. } => None,
        })
    }

    /// What stands is gone, or not as it should be: the next request makes all of it anew.
    pub fn broken(&self) {
        self.store.put(Broken);
    }
}

/// All of them, by the key of their plan.
#[derive(Debug, Default)]
pub struct Lives(Mutex<BTreeMap<KeyDigest, Live>>);

impl Lives {
    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<KeyDigest, Live>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one whose plan has this key.
    #[must_use]
    pub fn get(&self, key: KeyDigest) -> Option<Live> {
        self.table().get(&key).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Live> {
        self.table().values().cloned().collect()
    }

    /// The keys of their plans.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<KeyDigest> {
        self.table().keys().copied().collect()
    }

    /// Every node that a tunnel of theirs leads to.
    #[must_use]
    pub fn remotes(&self) -> BTreeSet<IpAddr> {
        let table = self.table();
        table.values().flat_map(Live::remotes).collect()
    }

    /// The ids of those with a tunnel to that node.
    #[must_use]
    pub fn through(&self, node: IpAddr) -> Vec<String> {
        let table = self.table();
        let goes = |live: &&Live| live.remotes().any(|remote| remote == node);
        table
            .values()
            .filter(goes)
            .map(|live| live.id.clone())
            .collect()
    }

    pub(crate) fn insert(&self, key: KeyDigest, live: Live) {
        self.table().insert(key, live);
    }

    pub(crate) fn remove(&self, id: &str) {
        self.table().retain(|_, live| live.id != id);
    }
}
