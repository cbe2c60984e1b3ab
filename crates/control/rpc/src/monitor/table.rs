//! The connections that a role has, and their subscribers.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use nsm_api::connection::{Connection, ConnectionEvent, ConnectionEventType, MonitorScopeSelector};
use nsm_chain::{Call, Code, Error};
use nsm_model::spiffe::SpiffeId;

use super::{
    matches,
    subscriber::{Change, Events, Filter, Subscriber, event},
};
use crate::server::{Answers, Monitor};

/// The most subscribers of one role: each connection has one or two, by the hops around.
pub const MAX_SUBSCRIBERS: usize = 16_384;

/// The most connections in the first event, which must stay below gRPC's 4 MiB; what is more comes
/// as updates right after it.
pub const INITIAL_BATCH: usize = 256;

/// The connections of one role by id; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Table>);

#[derive(Default)]
pub(crate) struct Table(Mutex<State>);

#[derive(Default)]
struct State {
    connections: BTreeMap<String, Arc<Connection>>,
    subscribers: BTreeMap<u64, Subscriber>,
    next: u64,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        let (connections, subscribers) = (state.connections.len(), state.subscribers.len());
        write!(f, "{connections} connections, {subscribers} subscribers")
    }
}

impl Connections {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers a connection as it is now, and tells those who watch it; an unchanged one tells
    /// nobody.
    pub fn update(&self, connection: Connection) {
        let mut state = self.0.state();
        if state
            .connections
            .get(&connection.id)
            .is_some_and(|old| **old == connection)
        {
            return;
        }
        let connection = Arc::new(connection);
        state
            .connections
            .insert(connection.id.clone(), Arc::clone(&connection));
        state.tell(&Change {
            kind: ConnectionEventType::UPDATE,
            connection,
        });
    }

    /// Tells those who watch a connection something about it without remembering it, such as a
    /// state that passes.
    pub fn notify(&self, connection: Connection) {
        let connection = Arc::new(connection);
        self.0.state().tell(&Change {
            kind: ConnectionEventType::UPDATE,
            connection,
        });
    }

    /// Forgets a connection, and tells those who watch it; the last that was known of it.
    pub fn delete(&self, id: &str) -> Option<Arc<Connection>> {
        let mut state = self.0.state();
        let connection = state.connections.remove(id)?;
        state.tell(&Change {
            kind: ConnectionEventType::DELETE,
            connection: Arc::clone(&connection),
        });
        Some(connection)
    }

    /// A connection as it is known now.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Connection>> {
        self.0.state().connections.get(id).cloned()
    }

    /// All of them, by id.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Connection>> {
        self.0.state().connections.values().cloned().collect()
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.0.state().subscribers.len()
    }

    /// Watches the connections that `filter` accepts: their state now, without a gap before the
    /// changes that follow.
    ///
    /// # Errors
    /// Beyond [`MAX_SUBSCRIBERS`].
    pub fn subscribe(
        &self,
        filter: impl Fn(&Connection) -> bool + Send + Sync + 'static,
    ) -> Result<Events, Error> {
        self.subscribe_boxed(Box::new(filter))
    }

    fn subscribe_boxed(&self, filter: Filter) -> Result<Events, Error> {
        let mut state = self.0.state();
        if state.subscribers.len() >= MAX_SUBSCRIBERS {
            let message = format!("{MAX_SUBSCRIBERS} monitor streams are open here already");
            return Err(Error::new(Code::ResourceExhausted, message));
        }
        let seen: Vec<_> = state
            .connections
            .values()
            .filter(|one| filter(one))
            .cloned()
            .collect();
        let number = state.next;
        state.next += 1;
        let (subscriber, events) =
            Subscriber::new(filter, initial(&seen), number, Arc::downgrade(&self.0));
        state.subscribers.insert(number, subscriber);
        Ok(events)
    }
}

/// The first event is sent in any case, also about no connection.
fn initial(seen: &[Arc<Connection>]) -> VecDeque<ConnectionEvent> {
    let (first, rest) = seen.split_at(seen.len().min(INITIAL_BATCH));
    let mut events = VecDeque::from([event(ConnectionEventType::INITIAL_STATE_TRANSFER, first)]);
    events.extend(
        rest.chunks(INITIAL_BATCH)
            .map(|some| event(ConnectionEventType::UPDATE, some)),
    );
    events
}

// === impl Table ===

impl Table {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn leave(&self, number: u64) {
        self.state().subscribers.remove(&number);
    }
}

impl State {
    fn tell(&mut self, change: &Change) {
        self.subscribers
            .retain(|_, one| !(one.filter)(&change.connection) || one.tell(change));
    }
}

/// Decides whether a caller may see a connection.
type Visible = Arc<dyn Fn(&SpiffeId, &Connection) -> bool + Send + Sync>;

/// `MonitorConnections` of a role: its table, and its rule of who may see what.
#[derive(Clone)]
pub struct Service {
    connections: Connections,
    visible: Visible,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "monitor::Service({:?})", self.connections)
    }
}

impl Service {
    /// Serves a table; `visible` is asked for each connection and caller.
    pub fn new(
        connections: Connections,
        visible: impl Fn(&SpiffeId, &Connection) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            connections,
            visible: Arc::new(visible),
        }
    }
}

#[async_trait]
impl Monitor for Service {
    async fn watch(
        &self,
        call: Call,
        selector: MonitorScopeSelector,
    ) -> Result<Answers<ConnectionEvent>, Error> {
        let Some(caller) = call.caller else {
            return Err(Error::new(
                Code::Unauthenticated,
                "a monitor stream needs a caller",
            ));
        };
        let visible = Arc::clone(&self.visible);
        let sees = move |one: &Connection| matches(&selector, one) && visible(&caller.id, one);
        Ok(Box::pin(self.connections.subscribe(sees)?))
    }
}
