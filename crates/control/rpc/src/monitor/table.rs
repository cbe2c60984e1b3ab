//! The connections that a role has, and their subscribers.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use nsm_api::connection::{Connection, ConnectionEvent, ConnectionEventType, MonitorScopeSelector};
use nsm_chain::{Call, Code, Error, elements::Interest};
use nsm_model::spiffe::SpiffeId;
use nsm_policy::denial::{Denial, Kind};

use super::{
    matches,
    subscriber::{Change, Events, Filter, Subscriber, Watcher, event},
};
use crate::server::{Answers, Monitor};

/// The most subscribers of one role: each connection has one or two, by the hops around.
pub const MAX_SUBSCRIBERS: usize = 16_384;

/// The most of one watcher: a hop has one, and one more for each connection that it holds while the
/// hop before it is away.
const MAX_OF_ONE: usize = MAX_SUBSCRIBERS / 2;

/// How long a watcher waits that finds no place.
const FULL: Duration = Duration::from_secs(1);

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
    /// Who sees a connection, other than operators; said before it is there.
    shown: BTreeMap<String, Vec<SpiffeId>>,
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

    /// From now on these see a connection with this id.
    pub fn show(&self, id: &str, to: Vec<SpiffeId>) {
        self.0.state().shown.insert(id.to_owned(), to);
    }

    /// Whether somebody sees a connection, other than as an operator.
    #[must_use]
    pub fn sees(&self, id: &str, who: &SpiffeId) -> bool {
        self.0.state().shown_to(id).contains(who)
    }

    /// Remembers a connection as it is now, and tells those who watch it; an unchanged one tells
    /// nobody.
    pub fn update(&self, connection: Connection) {
        self.0.state().update(connection);
    }

    /// Changes a connection that is here, as it is now: nobody else changes it in between. `change`
    /// says whether it has changed anything, and asks nothing of this table.
    pub fn change(&self, id: &str, change: &mut dyn FnMut(&mut Connection) -> bool) {
        let mut state = self.0.state();
        let Some(known) = state.connections.get(id) else {
            return;
        };
        let mut connection = Connection::clone(known);
        if change(&mut connection) {
            state.update(connection);
        }
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
        state.shown.remove(id);
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
        filter: impl Fn(&Connection, &[SpiffeId]) -> bool + Send + Sync + 'static,
    ) -> Result<Events, Error> {
        self.subscribe_boxed(Box::new(filter), None)
    }

    /// What somebody does about a connection: whoever has one watches the hop that it goes through,
    /// and names it where it holds it in spite of a lease that has ended.
    #[must_use]
    pub fn interest(&self, id: &str, who: &SpiffeId) -> Interest {
        let state = self.0.state();
        let watchers = state
            .subscribers
            .values()
            .filter_map(|one| one.watcher.as_ref());
        let mut theirs = watchers.filter(|watcher| watcher.who == *who).peekable();
        if theirs.peek().is_none() {
            return Interest::Away;
        }
        let Some(connection) = state.connections.get(id) else {
            return Interest::Watches;
        };
        let names = |watcher: &Watcher| {
            let segments = &connection.path.path_segments;
            segments
                .iter()
                .any(|segment| watcher.named.contains(&segment.id))
        };
        if theirs.any(names) {
            Interest::Holds
        } else {
            Interest::Watches
        }
    }

    /// The id of a connection that `selector` names by an id, where the caller sees none of those
    /// that it names: somebody else's.
    fn foreign(
        &self,
        selector: &MonitorScopeSelector,
        sees: impl Fn(&Connection, &[SpiffeId]) -> bool,
    ) -> Option<String> {
        if selector.path_segments.iter().all(|one| one.id.is_empty()) {
            return None;
        }
        let state = self.0.state();
        let named = state
            .connections
            .values()
            .filter(|one| matches(selector, one));
        let mut foreign = None;
        for one in named {
            if sees(one, state.shown_to(&one.id)) {
                return None;
            }
            foreign.get_or_insert_with(|| one.id.clone());
        }
        foreign
    }

    fn subscribe_boxed(&self, filter: Filter, watcher: Option<Watcher>) -> Result<Events, Error> {
        let mut state = self.0.state();
        if state.subscribers.len() >= MAX_SUBSCRIBERS {
            let message = format!("{MAX_SUBSCRIBERS} monitor streams are open here already");
            return Err(Error::busy(message, FULL));
        }
        if let Some(Watcher { who, .. }) = &watcher {
            let theirs = state
                .subscribers
                .values()
                .filter_map(|one| one.watcher.as_ref());
            if theirs.filter(|other| other.who == *who).count() >= MAX_OF_ONE {
                let message = format!("{who} has {MAX_OF_ONE} monitor streams open here already");
                return Err(Error::busy(message, FULL));
            }
        }
        let seen: Vec<_> = state
            .connections
            .values()
            .filter(|one| filter(one, state.shown_to(&one.id)))
            .cloned()
            .collect();
        let number = state.next;
        state.next += 1;
        let (subscriber, events) = Subscriber::new(
            filter,
            watcher,
            initial(&seen),
            number,
            Arc::downgrade(&self.0),
        );
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
    fn update(&mut self, connection: Connection) {
        let known = self.connections.get(&connection.id);
        if known.is_some_and(|old| **old == connection) {
            return;
        }
        let connection = Arc::new(connection);
        self.connections
            .insert(connection.id.clone(), Arc::clone(&connection));
        self.tell(&Change {
            kind: ConnectionEventType::UPDATE,
            connection,
        });
    }

    fn shown_to(&self, id: &str) -> &[SpiffeId] {
        self.shown.get(id).map_or(&[], Vec::as_slice)
    }

    fn tell(&mut self, change: &Change) {
        let shown = self.shown.get(&change.connection.id);
        let shown = shown.map_or(&[][..], Vec::as_slice);
        self.subscribers
            .retain(|_, one| !(one.filter)(&change.connection, shown) || one.tell(change));
    }
}

/// Decides whether a caller sees every connection.
type Operators = Arc<dyn Fn(&SpiffeId) -> bool + Send + Sync>;

/// `MonitorConnections` of a role: everybody sees what is shown to it, operators everything.
#[derive(Clone)]
pub struct Service {
    connections: Connections,
    operators: Operators,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "monitor::Service({:?})", self.connections)
    }
}

impl Service {
    /// Serves a table; `operators` says who is one, at each look.
    pub fn new(
        connections: Connections,
        operators: impl Fn(&SpiffeId) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            connections,
            operators: Arc::new(operators),
        }
    }

    fn denied(caller: &SpiffeId, id: &str) -> Error {
        let why = format!(
            "the selector names a connection that is not {caller}'s: its maker, the hop that brought it here, and operators \
             watch it"
        );
        let what = format!("monitor connection {id}");
        Error::denied(&Denial::new(Kind::Owner, caller, what, why))
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
        let operators = Arc::clone(&self.operators);
        let who = caller.id;
        let own = {
            let who = who.clone();
            move |shown: &[SpiffeId]| shown.contains(&who) || operators(&who)
        };
        if let Some(id) = self.connections.foreign(&selector, |_, shown| own(shown)) {
            return Err(Self::denied(&who, &id));
        }
        let segments = selector.path_segments.iter();
        let named = segments.map(|segment| segment.id.clone());
        let watcher = Watcher {
            who,
            named: named.filter(|id| !id.is_empty()).collect(),
        };
        let sees =
            move |one: &Connection, shown: &[SpiffeId]| matches(&selector, one) && own(shown);
        let events = self
            .connections
            .subscribe_boxed(Box::new(sees), Some(watcher))?;
        Ok(Box::pin(events))
    }
}
