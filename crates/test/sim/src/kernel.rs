//! A node's kernel as a table: what stands in its namespaces, whoever made it.
//!
//! It keeps Linux's rules as far as a forwarder sees them: a VNI once in a node, a name once in a
//! namespace, nothing in a namespace that is gone, what is deleted waits in the reaper's group for
//! a while. It outlives every process, and every change of a plan is a place where one can end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nsm_forwarder::{Gone, KernelError};
use nsm_model::mechanism::Vni;
use nsm_plan::{Entry, KeyDigest, Link, Netns, NetnsId, Plan, Resource, ResourceId};
use tokio::{sync::mpsc, time::Instant};

use crate::log::Log;

mod handle;
mod paths;

pub use handle::Handle;
pub use paths::{Reached, reach};

/// A node's kernel; a clone is the same one.
#[derive(Clone)]
pub struct Kernel {
    /// The node's number.
    pub node: usize,
    /// The node's address in the underlay.
    pub address: IpAddr,
    state: Arc<Mutex<State>>,
    log: Log,
}

#[derive(Default)]
struct State {
    namespaces: BTreeSet<NetnsId>,
    standing: BTreeMap<ResourceId, Entry>,
    down: BTreeSet<KeyDigest>,
    /// Links that wait for their deletion: whose, and since when.
    tombs: BTreeMap<u64, (KeyDigest, Instant)>,
    buried: u64,
    gone: Option<mpsc::Sender<Gone>>,
    /// Counts what changes.
    changes: u64,
    /// Whose links came or went by a fault, not by a forwarder.
    hurt: BTreeMap<KeyDigest, Instant>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({})", self.node)
    }
}

fn link(entry: &Entry) -> Option<&Link> {
    match &entry.resource {
        Resource::Link(link) => Some(link),
        Resource::Sysctl(_)
        | Resource::Address(_)
        | Resource::Route(_)
        | Resource::Neighbour(_) => None,
    }
}

fn vni(entry: &Entry) -> Option<Vni> {
    match link(entry)? {
        Link::Vxlan { tunnel, .. } => Some(tunnel.vni),
        Link::Veth { .. } => None,
    }
}

impl Kernel {
    /// A node's kernel without namespaces.
    #[must_use]
    pub fn new(node: usize, address: IpAddr, log: Log) -> Self {
        Self {
            node,
            address,
            state: Arc::default(),
            log,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To change something: it counts.
    fn change(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.changes += 1;
        state
    }

    /// How often something has changed here.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// A namespace is new here.
    pub fn add_namespace(&self, id: NetnsId) {
        self.state().namespaces.insert(id);
    }

    /// A namespace is gone, with everything in it; the other ends of its links go as well.
    pub fn delete_namespace(&self, id: NetnsId) {
        let mut state = self.change();
        state.namespaces.remove(&id);
        let within = |entry: &Entry| entry.resource.places().contains(&Netns::Id(id));
        let keys: BTreeSet<KeyDigest> = state
            .standing
            .values()
            .filter(|entry| link(entry).is_some() && within(entry))
            .map(|entry| entry.id.key)
            .collect();
        state.standing.retain(|_, entry| !within(entry));
        for key in keys {
            state.drop_link(key);
            state.tell(Gone::Link(key));
        }
        state.tell(Gone::Namespace(id));
    }

    /// Whose links stand here, in the order of their keys.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyDigest> {
        let state = self.state();
        let links = state.standing.values().filter(|one| link(one).is_some());
        let keys: BTreeSet<_> = links.map(|one| one.id.key).collect();
        keys.into_iter().collect()
    }

    /// Somebody sets a link down by hand.
    pub fn set_down(&self, key: KeyDigest) {
        self.log
            .mark(format_args!("node {}: link {key} set down", self.node));
        let mut state = self.change();
        state.down.insert(key);
        state.hurt.insert(key, Instant::now());
        state.tell(Gone::Link(key));
    }

    /// Somebody removes a link by hand.
    pub fn remove(&self, key: KeyDigest) {
        self.log
            .mark(format_args!("node {}: link {key} removed", self.node));
        let mut state = self.change();
        state.drop_link(key);
        state.tell(Gone::Link(key));
    }

    /// What stands and what waits for its deletion.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.standing.len(), state.tombs.len())
    }

    /// Links that wait for their deletion: whose, and since when.
    #[must_use]
    pub fn tombs(&self) -> Vec<(KeyDigest, Instant)> {
        self.state().tombs.values().copied().collect()
    }

    /// Every entry that stands.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.state().standing.values().cloned().collect()
    }

    /// When the links of a connection were last hurt by a fault.
    #[must_use]
    pub fn hurt(&self, key: KeyDigest) -> Option<Instant> {
        self.state().hurt.get(&key).copied()
    }

    /// Who listens to what vanishes; the one before does no longer.
    pub fn listen(&self, gone: mpsc::Sender<Gone>) {
        self.state().gone = Some(gone);
    }

    fn make(&self, entry: &Entry) -> Result<(), KernelError> {
        let mut state = self.change();
        for place in entry.resource.places() {
            if let Netns::Id(id) = place
                && !state.namespaces.contains(&id)
            {
                let message = format!("namespace {id} is gone");
                return Err(KernelError::Refused(message));
            }
        }
        if let Some(wanted) = vni(entry) {
            let key = entry.id.key;
            let taken = |other: &Entry| other.id.key != key && vni(other) == Some(wanted);
            if state.standing.values().any(taken) {
                return Err(KernelError::VniInUse(wanted));
            }
        }
        if let Some(new) = link(entry) {
            state.check_names(entry, new)?;
            state.make_way(entry, new);
            state.down.remove(&entry.id.key);
        } else {
            let stands = state
                .standing
                .values()
                .any(|one| one.id.key == entry.id.key && link(one).is_some());
            if !stands {
                let message = format!("{:?}: no such device", entry.id);
                return Err(KernelError::Refused(message));
            }
        }
        state.standing.insert(entry.id.clone(), entry.clone());
        drop(state);
        self.log
            .note(format_args!("node {}: made {:?}", self.node, entry.id));
        Ok(())
    }

    /// Takes an entry away; a link leaves its grave's number.
    fn unmake(&self, entry: &Entry) -> Option<u64> {
        let mut state = self.change();
        let known = state.standing.remove(&entry.id)?;
        link(&known)?;
        state.clear(entry.id.key);
        state.buried += 1;
        let number = state.buried;
        state.tombs.insert(number, (entry.id.key, Instant::now()));
        drop(state);
        self.log
            .note(format_args!("node {}: closed {:?}", self.node, entry.id));
        Some(number)
    }

    /// Namespaces of a plan that are no more.
    fn lost(&self, plan: &Plan) -> BTreeSet<NetnsId> {
        &plan.namespaces() - &self.state().namespaces
    }

    /// Whether an entry is there as it should be.
    fn is_right(&self, entry: &Entry) -> bool {
        let state = self.state();
        let down = link(entry).is_some() && state.down.contains(&entry.id.key);
        !down && state.standing.get(&entry.id).map(|one| &one.resource) == Some(&entry.resource)
    }

    /// The links that none of these keys owns.
    fn unknown(&self, known: &BTreeSet<KeyDigest>) -> Vec<Entry> {
        let state = self.state();
        let nobodys = |one: &&Entry| link(one).is_some() && !known.contains(&one.id.key);
        state.standing.values().filter(nobodys).cloned().collect()
    }

    /// The numbers of what waits for its deletion.
    fn graves(&self) -> Vec<u64> {
        self.state().tombs.keys().copied().collect()
    }

    fn reap(&self, number: u64) {
        self.state().tombs.remove(&number);
    }

    fn stands(&self, plan: &Plan) -> bool {
        let state = self.state();
        plan.links()
            .all(|(id, _)| state.standing.contains_key(id) && !state.down.contains(&id.key))
    }
}

impl State {
    /// A link with all that is on it.
    fn clear(&mut self, key: KeyDigest) {
        self.standing.retain(|id, _| id.key != key);
        self.down.remove(&key);
    }

    /// What an earlier process left of the same connection's link, where it is another one.
    fn make_way(&mut self, entry: &Entry, new: &Link) {
        let key = entry.id.key;
        let other = |one: &Entry| {
            one.id.key == key && link(one).is_some_and(|old| old != new && !new.resizes(old))
        };
        if self.standing.values().any(other) {
            self.clear(key);
        }
    }

    /// A link that goes by no forwarder's doing.
    fn drop_link(&mut self, key: KeyDigest) {
        self.clear(key);
        self.hurt.insert(key, Instant::now());
    }

    fn tell(&self, gone: Gone) {
        if let Some(listener) = &self.gone {
            let _full_or_dead = listener.try_send(gone);
        }
    }

    fn check_names(&self, entry: &Entry, new: &Link) -> Result<(), KernelError> {
        let key = entry.id.key;
        let others = self.standing.values().filter(|one| one.id.key != key);
        let names = others.filter_map(link).flat_map(Link::ends);
        let taken: BTreeSet<_> = names.map(|end| (end.netns, end.name.clone())).collect();
        for end in new.ends() {
            if taken.contains(&(end.netns, end.name.clone())) {
                let message = format!("interface {} exists in {}", end.name, end.netns);
                return Err(KernelError::NameInUse(message));
            }
        }
        Ok(())
    }
}
