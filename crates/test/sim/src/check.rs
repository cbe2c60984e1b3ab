//! What must hold at every step, and at rest: a reference that knows only what everybody can see.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nsm_model::ids::ConnectionKey;
use nsm_plan::{KeyDigest, NetnsId};
use tokio::time::Instant;

use crate::{
    kernel::{Kernel, Reached, reach},
    keys::spiffe,
    roles::{INTERFACE, is_blind},
    world::{NODES, Who, World, netns},
};

mod rest;
mod torn;

/// How long a connection that does not carry may take to heal once all that it needs is there.
const HEALED: Duration = Duration::from_secs(30);
/// How long a link may stand that no process of its node knows: a forwarder's grace after a restart
/// and the time of a close.
const GRACE: Duration = Duration::from_secs(90);
/// How long what was closed may wait for its deletion (design, invariant 3).
const BURIED: Duration = Duration::from_secs(2);

/// What can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// No address twice.
    Addresses,
    /// No link without an owner beyond its grace.
    Links,
    /// Every connection carries or is being healed.
    Carries,
    /// What carries goes on carrying while nothing hurts its links and its client runs.
    Torn,
    /// An answered Close leaves tombstones at most, and those no longer than 2 s.
    Close,
    /// A Close whose whole path is there is answered well.
    Answered,
    /// Ids keep their owners.
    Ids,
    /// No process panics.
    Panics,
    /// At rest every client that can be served is served.
    Served,
    /// At rest everything else is empty.
    Empty,
}

/// All of them.
pub const ALL: [Rule; 10] = [
    Rule::Addresses,
    Rule::Links,
    Rule::Carries,
    Rule::Torn,
    Rule::Close,
    Rule::Answered,
    Rule::Ids,
    Rule::Panics,
    Rule::Served,
    Rule::Empty,
];

/// A rule that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// How.
    pub what: String,
}

/// The links of a connection, each with its node.
pub type Path = Vec<(usize, KeyDigest)>;

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub struct Checker {
    /// Rules that are not looked at.
    pub off: BTreeSet<Rule>,
    /// Since when a client has been without a path although it could have one.
    without: BTreeMap<usize, Instant>,
    /// Since when a link has been nobody's.
    orphans: BTreeMap<(usize, KeyDigest), Instant>,
    /// Whose an id is, by hop and id.
    owners: BTreeMap<(String, String), String>,
    /// Whose a link is: the client's place.
    keys: BTreeMap<KeyDigest, usize>,
    /// What each client reaches, as of so many changes in the kernels.
    paths: Vec<Option<Reached>>,
    torn: torn::Torn,
    changes: u64,
    looks: u64,
}

/// Ids are looked at in every look of so many.
const IDS_EVERY: u64 = 4;

impl Checker {
    fn broken(&self, rule: Rule, what: String) -> Result<(), Violation> {
        if self.off.contains(&rule) {
            return Ok(());
        }
        Err(Violation { rule, what })
    }

    /// One look at everything.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn look(&mut self, world: &World) -> Result<(), Violation> {
        self.looks += 1;
        if self.looks.is_multiple_of(IDS_EVERY) {
            self.ids(world)?;
        }
        let changes: u64 = world.ground.kernels.iter().map(Kernel::changes).sum();
        if changes != self.changes || self.paths.is_empty() {
            self.changes = changes;
            let all = 0..world.clients.len();
            self.paths = all.map(|place| path(world, place)).collect();
            self.addresses(world)?;
        }
        self.links(world)?;
        if let Some(what) = self.torn.look(world, &self.paths) {
            self.broken(Rule::Torn, what)?;
        }
        self.carries(world)?;
        self.panics(world)
    }

    fn panics(&self, world: &World) -> Result<(), Violation> {
        let mut all = world.servers();
        all.extend((0..world.clients.len()).map(Who::Client));
        for process in all.into_iter().filter_map(|who| world.process(who)) {
            if let Some(said) = process.panic() {
                return self.broken(Rule::Panics, format!("{} panicked: {said}", process.name()));
            }
        }
        Ok(())
    }

    fn ids(&mut self, world: &World) -> Result<(), Violation> {
        let mut tables = Vec::new();
        for node in 0..NODES {
            tables.push((
                format!("manager-{node}"),
                &world.managers[node].table,
                false,
            ));
            let forwarder = &world.forwarders[node];
            tables.push((format!("forwarder-{node}"), &forwarder.table, true));
        }
        for pod in &world.endpoints {
            if let Some(role) = &pod.role {
                tables.push((pod.name.clone(), &role.table, false));
            }
        }
        for (hop, table, forwards) in tables {
            for connection in table.list() {
                let Some(first) = connection.path.path_segments.first() else {
                    continue;
                };
                let key = (hop.clone(), connection.id.clone());
                if let Some(owner) = self.owners.get(&key) {
                    if *owner != first.id {
                        let what = format!("{hop}: {} was {owner}'s, is {}'s", key.1, first.id);
                        return self.broken(Rule::Ids, what);
                    }
                    continue;
                }
                if forwards {
                    let digest = ConnectionKey {
                        owner: spiffe(&first.name),
                        id: connection.id.clone(),
                    }
                    .digest();
                    let place = world.clients.iter().position(|one| one.name == first.name);
                    self.keys
                        .extend(place.map(|place| (KeyDigest(digest), place)));
                }
                self.owners.insert(key, first.id.clone());
            }
        }
        Ok(())
    }

    fn addresses(&self, world: &World) -> Result<(), Violation> {
        let mut given = BTreeMap::new();
        for (place, reached) in self.paths.iter().enumerate() {
            let Some(reached) = reached else { continue };
            for &address in &reached.addresses {
                if let Some(other) = given.insert((reached.namespace, address), place) {
                    let name = |place: usize| world.clients[place].name.clone();
                    let what = format!(
                        "{address} of {} is both {}'s and {}'s",
                        reached.namespace,
                        name(other),
                        name(place)
                    );
                    return self.broken(Rule::Addresses, what);
                }
            }
        }
        Ok(())
    }

    fn links(&mut self, world: &World) -> Result<(), Violation> {
        let mut now = BTreeMap::new();
        for (node, kernel) in world.ground.kernels.iter().enumerate() {
            if !world.runs(Who::Forwarder(node)) {
                continue;
            }
            // What a forwarder left that was killed waits for the grace of the one after it.
            let began = world.forwarders[node].process.began();
            for (key, since) in kernel.tombs() {
                if since.max(began).elapsed() > GRACE {
                    let what = format!("node {node}: link {key} waits for its deletion");
                    return self.broken(Rule::Links, what);
                }
            }
            let owned = world.forwarders[node].forwarder.lives.keys();
            for key in kernel.keys() {
                if owned.contains(&key) {
                    continue;
                }
                let since = self.orphans.get(&(node, key)).copied();
                let since = since.unwrap_or_else(Instant::now);
                if since.elapsed() > GRACE {
                    let what = format!(
                        "node {node}: link {key} is nobody's ({})",
                        self.whose(world, key)
                    );
                    return self.broken(Rule::Links, what);
                }
                now.insert((node, key), since);
            }
        }
        self.orphans = now;
        Ok(())
    }

    fn whose(&self, world: &World, key: KeyDigest) -> String {
        let place = self.keys.get(&key);
        place.map_or_else(
            || "of no connection that was ever granted".to_owned(),
            |place| format!("was {}'s", world.clients[*place].name),
        )
    }

    fn carries(&mut self, world: &World) -> Result<(), Violation> {
        for place in 0..world.clients.len() {
            let served = ends_well(world, place, self.paths[place].as_ref());
            if served || !servable(world, place) {
                self.without.remove(&place);
                continue;
            }
            let since = *self.without.entry(place).or_insert_with(Instant::now);
            if since.elapsed() > HEALED {
                let what = format!(
                    "{} has had no path for {HEALED:?}, although all that it needs is there",
                    world.clients[place].name
                );
                return self.broken(Rule::Carries, what);
            }
        }
        Ok(())
    }

    /// Right after a Close of this client was answered well; `path` is what it had before.
    ///
    /// # Errors
    /// It has left a link.
    pub fn closed(&self, world: &World, place: usize, path: &Path) -> Result<(), Violation> {
        for &(node, key) in path {
            if world.ground.kernels[node].keys().contains(&key) {
                let name = &world.clients[place].name;
                let what = format!("{name} was closed, and link {key} stands on node {node}");
                return self.broken(Rule::Close, what);
            }
        }
        Ok(())
    }

    /// Two seconds after a Close of this client was answered well.
    ///
    /// # Errors
    /// It has left anything.
    pub fn buried(&self, world: &World, place: usize, path: &Path) -> Result<(), Violation> {
        // One that is back asks under the same id: the same links are its new ones.
        if !world.clients[place].wanted {
            self.closed(world, place, path)?;
        }
        for &(node, key) in path {
            let forwarder = &world.forwarders[node].process;
            let old = |since: &Instant| since.elapsed() >= BURIED && forwarder.began() < *since;
            for (other, _) in world.ground.kernels[node]
                .tombs()
                .iter()
                .filter(|(_, since)| old(since))
            {
                if *other == key && forwarder.alive() {
                    let name = &world.clients[place].name;
                    let what = format!("{name}: link {key} on node {node} is not deleted yet");
                    return self.broken(Rule::Close, what);
                }
            }
        }
        Ok(())
    }
}

/// What a client's packets reach.
#[must_use]
pub fn path(world: &World, place: usize) -> Option<Reached> {
    let pod = &world.clients[place];
    let from = netns(pod.namespace.as_ref()?);
    reach(&world.ground.kernels, pod.node, from, INTERFACE)
}

/// Whether a client's packets reach an endpoint of its service that lives.
#[must_use]
pub fn served(world: &World, place: usize) -> bool {
    ends_well(world, place, path(world, place).as_ref())
}

fn ends_well(world: &World, place: usize, reached: Option<&Reached>) -> bool {
    let Some(reached) = reached else {
        return false;
    };
    let service = world.clients[place].service;
    world.endpoints.iter().any(|pod| {
        let namespace: Option<NetnsId> = pod.namespace.as_ref().map(netns);
        pod.service == service && namespace == Some(reached.namespace)
    })
}

/// Whether all is there that a client needs: its own process, its node's, and an endpoint with its
/// node's; certificates that are good, and a registry that both nodes hear and that can write. One
/// that cannot look at its packets is told by the nodes that it goes through: those of all.
#[must_use]
pub fn servable(world: &World, place: usize) -> bool {
    let pod = &world.clients[place];
    let net = &world.ground.net;
    let hops = |node: usize| {
        let all = [Who::Manager(node), Who::Forwarder(node)];
        all.into_iter().all(|who| world.works(who)) && !net.are_apart(node, NODES)
    };
    let endpoint = |(at, other): (usize, &crate::world::EndpointPod)| {
        other.service == pod.service
            && world.works(Who::Endpoint(at))
            && hops(other.node)
            && !net.are_apart(pod.node, other.node)
    };
    let told = || (0..NODES).all(|node| hops(node) && !net.are_apart(pod.node, node));
    pod.wanted
        && (!is_blind(&pod.name) || told())
        && world.works(Who::Client(place))
        && world.works(Who::Registry)
        && hops(pod.node)
        && world.endpoints.iter().enumerate().any(endpoint)
}
