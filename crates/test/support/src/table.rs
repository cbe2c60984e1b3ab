//! A role's table of connections, and the streams of whoever watches it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::{StreamExt as _, stream};
use nsm_api::connection::{Connection, ConnectionEvent, ConnectionEventType, MonitorScopeSelector};
use nsm_chain::{
    Events,
    elements::{Interest, Table},
};
use nsm_model::spiffe::SpiffeId;
use tokio::sync::broadcast;

/// Events that one watcher may be behind: more than any test makes.
const QUEUE: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Watched {
    connections: Mutex<BTreeMap<String, Connection>>,
    shown: Mutex<BTreeMap<String, Vec<SpiffeId>>>,
    /// What a test says; who is not spoken of watches.
    interests: Mutex<BTreeMap<(String, SpiffeId), Interest>>,
    events: broadcast::Sender<ConnectionEvent>,
}

impl Default for Watched {
    fn default() -> Self {
        Self {
            connections: Mutex::default(),
            shown: Mutex::default(),
            interests: Mutex::default(),
            events: broadcast::channel(QUEUE).0,
        }
    }
}

fn event(kind: ConnectionEventType, connections: Vec<Connection>) -> ConnectionEvent {
    ConnectionEvent {
        r#type: kind.into(),
        connections: connections
            .into_iter()
            .map(|one| (one.id.clone(), one))
            .collect(),
        ..Default::default()
    }
}

fn wanted(connection: &Connection, selector: &MonitorScopeSelector) -> bool {
    let Some(wanted) = selector.path_segments.first() else {
        return true;
    };
    let path = &connection.path.path_segments;
    path.iter().any(|segment| segment.name == wanted.name)
}

impl Watched {
    fn shown(&self) -> MutexGuard<'_, BTreeMap<String, Vec<SpiffeId>>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<String, Connection>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn interests(&self) -> MutexGuard<'_, BTreeMap<(String, SpiffeId), Interest>> {
        self.interests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on somebody does this about a connection.
    pub fn says(&self, id: &str, who: &SpiffeId, interest: Interest) {
        self.interests()
            .insert((id.to_owned(), who.clone()), interest);
    }

    /// Every connection.
    #[must_use]
    pub fn all(&self) -> Vec<Connection> {
        self.connections().values().cloned().collect()
    }

    /// How many watch.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.events.receiver_count()
    }

    /// The stream of a watcher: the state first, then what changes.
    #[must_use]
    pub fn stream(&self, selector: MonitorScopeSelector) -> Events {
        let connections = self.connections();
        let now = connections.values().filter(|one| wanted(one, &selector));
        let first = event(
            ConnectionEventType::INITIAL_STATE_TRANSFER,
            now.cloned().collect(),
        );
        let receiver = self.events.subscribe();
        drop(connections);
        let rest = stream::unfold((receiver, selector), |(mut receiver, selector)| async {
            loop {
                let mut next = receiver.recv().await.ok()?;
                next.connections.retain(|_, one| wanted(one, &selector));
                if !next.connections.is_empty() {
                    return Some((Ok(next), (receiver, selector)));
                }
            }
        });
        stream::iter([Ok(first)]).chain(rest).boxed()
    }

    fn put(&self, connections: &mut BTreeMap<String, Connection>, connection: Connection) {
        connections.insert(connection.id.clone(), connection.clone());
        let _nobody_watches = self
            .events
            .send(event(ConnectionEventType::UPDATE, vec![connection]));
    }
}

impl Table for Watched {
    fn update(&self, connection: Connection) {
        self.put(&mut self.connections(), connection);
    }

    fn change(&self, id: &str, change: &mut dyn FnMut(&mut Connection) -> bool) {
        let mut connections = self.connections();
        let Some(mut connection) = connections.get(id).cloned() else {
            return;
        };
        if change(&mut connection) {
            self.put(&mut connections, connection);
        }
    }

    fn show(&self, id: &str, to: Vec<SpiffeId>) {
        self.shown().insert(id.to_owned(), to);
    }

    fn sees(&self, id: &str, who: &SpiffeId) -> bool {
        self.shown().get(id).is_some_and(|to| to.contains(who))
    }

    fn interest(&self, id: &str, who: &SpiffeId) -> Interest {
        let interests = self.interests();
        interests
            .get(&(id.to_owned(), who.clone()))
            .copied()
            .unwrap_or(Interest::Watches)
    }

    fn delete(&self, id: &str) {
        self.shown().remove(id);
        let mut connections = self.connections();
        if let Some(connection) = connections.remove(id) {
            let _nobody_watches = self
                .events
                .send(event(ConnectionEventType::DELETE, vec![connection]));
        }
    }

    fn get(&self, id: &str) -> Option<Connection> {
        self.connections().get(id).cloned()
    }

    fn served_by(&self, endpoint: &str) -> Vec<Connection> {
        let all = self.connections();
        all.values()
            .filter(|one| one.network_service_endpoint_name == endpoint)
            .cloned()
            .collect()
    }
}
