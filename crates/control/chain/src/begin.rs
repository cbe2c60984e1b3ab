//! `begin`: one event at a time for each item, in order.
//!
//! *What it does*: gives each item (a connection by its id, an endpoint by its name) one entry
//! with a lock and a [`Store`], and runs what comes after it in the list under that lock.
//! *Where it stands*: after `updatepath`, which decides the id, and after `authorize`: a caller who
//! has proved nothing neither waits for a turn nor ends an entry; before whatever remembers things.
//! *What it promises*: a caller that gave up while it waited is not executed later; one that gives
//! up while it is executed does not leave half of it done, since the rest runs in a task of its
//! own; a first request that failed or panicked leaves nothing; a refresh that did leaves what was.
//! With a journal, it writes down what was answered and strikes what is gone, and takes up after a
//! restart what is written there.
//! *On Close*: goes on for an id that it does not know as well, so that a hop which was restarted
//! still passes the Close on; the entry ends whatever is answered further down.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard, oneshot},
    time::{Instant, timeout_at},
};

use nsm_model::spiffe::SpiffeId;

use crate::{Call, Code, Element, Error, Journal, Kind, Next, Record, Store, Tasks, call::Own};

mod factory;
mod gate;
mod restore;

pub use factory::Factory;
use gate::{Beginning, Gate, Place};
pub use restore::Noting;

/// The most items that one role holds: beyond it new ones are refused, so that a flood of ids
/// cannot take the memory that established connections need (about 4 KiB each).
pub const MAX_ITEMS: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub struct Begin<K: Kind>(Arc<Table<K>>);

struct Table<K: Kind> {
    entries: Mutex<BTreeMap<String, Arc<Entry<K>>>>,
    tasks: Tasks,
    journal: Option<Arc<dyn Journal>>,
    /// Elements write an item down again while they close it.
    notes: bool,
    gate: Arc<Gate>,
    limit: usize,
}

impl<K: Kind> std::fmt::Debug for Table<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({} {}s)", self.entries().len(), K::NAME)
    }
}

#[derive(Debug)]
struct Entry<K: Kind> {
    state: Arc<AsyncMutex<State<K>>>,
    store: Arc<Store>,
}

#[derive(Debug)]
struct State<K: Kind> {
    /// The last request and its answer: present once the item is established.
    item: Option<(K::Request, K::Item)>,
    own: Option<Own>,
    /// Who brought it last.
    bringer: Option<SpiffeId>,
    /// The journal has it.
    kept: bool,
    /// Its place among its caller's, where somebody else brought it.
    place: Option<Place>,
    /// The entry has left the table; whoever waited for it looks again.
    gone: bool,
}

/// A turn at an item: nobody else works on it until this is dropped. An item that is not
/// established then is gone, whatever ended the turn: an answer, a panic, a caller that gave up.
struct Turn<K: Kind> {
    id: String,
    table: Arc<Table<K>>,
    store: Arc<Store>,
    state: OwnedMutexGuard<State<K>>,
}

impl<K: Kind> Drop for Turn<K> {
    fn drop(&mut self) {
        if self.state.item.is_none() {
            self.state.gone = true;
            self.table.entries().remove(&self.id);
            if let Some(journal) = self.table.journal.as_ref().filter(|_| self.state.kept) {
                journal.forget(&self.id);
            }
        }
    }
}

/// An entry, and the turn at it where it is new.
type Found<K> = (Arc<Entry<K>>, Option<OwnedMutexGuard<State<K>>>);

// === impl Begin ===

impl<K: Kind> Begin<K> {
    /// The element; `tasks` owns the work that goes on after a caller gave up.
    #[must_use]
    pub fn new(tasks: Tasks) -> Self {
        Self::limited(tasks, MAX_ITEMS)
    }

    /// The element of a role that holds no more than `limit` items.
    #[must_use]
    pub fn limited(tasks: Tasks, limit: usize) -> Self {
        Self::with(tasks, limit, None, false)
    }

    /// The element of a role with a journal, where it has one.
    #[must_use]
    pub fn journalled(tasks: Tasks, journal: Option<Arc<dyn Journal>>) -> Self {
        Self::with(tasks, MAX_ITEMS, journal, false)
    }

    /// As [`Begin::journalled`], of a role that makes again what its journal tells of: its elements
    /// note what they have taken back before a Close goes on ([`Noting`]).
    #[must_use]
    pub fn noting(tasks: Tasks, journal: Option<Arc<dyn Journal>>) -> Self {
        Self::with(tasks, MAX_ITEMS, journal, true)
    }

    fn with(tasks: Tasks, limit: usize, journal: Option<Arc<dyn Journal>>, notes: bool) -> Self {
        Self(Arc::new(Table {
            entries: Mutex::default(),
            tasks,
            journal,
            notes,
            gate: Arc::default(),
            limit,
        }))
    }
}

#[async_trait]
impl<K: Kind> Element<K> for Begin<K> {
    fn name(&self) -> &'static str {
        "begin"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: K::Request,
        next: Next<K>,
    ) -> Result<K::Item, Error> {
        let id = K::id(K::item(&request)).to_owned();
        if id.is_empty() {
            return Err(Error::new(
                Code::InvalidArgument,
                format!("{} has an empty id or name", K::NAME),
            ));
        }
        let mut turn = self.0.enter(&id, call.deadline, self.0.limit).await?;
        let beginning = turn.admit(call)?;
        self.0
            .detached(
                &id,
                call,
                &turn.store.clone(),
                move |mut inner| async move {
                    let answer = turn.request(&mut inner, request, &next).await;
                    drop(beginning);
                    (inner, answer)
                },
            )
            .await
    }

    async fn close(&self, call: &mut Call, item: K::Item, next: Next<K>) -> Result<(), Error> {
        let id = K::id(&item).to_owned();
        // It leaves again: a full table is no reason to keep anything.
        let mut turn = self.0.enter(&id, call.deadline, usize::MAX).await?;
        self.0
            .detached(
                &id,
                call,
                &turn.store.clone(),
                move |mut inner| async move {
                    let answer = turn.close(&mut inner, item, &next).await;
                    (inner, answer)
                },
            )
            .await
    }

    async fn restore(
        &self,
        call: &mut Call,
        record: &Record<K>,
        next: Next<K>,
    ) -> Result<(), Error> {
        self.0.restore(call, record, &next).await
    }
}

// === impl Table ===

impl<K: Kind> Table<K> {
    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Entry<K>>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The item's entry, and the turn at it where it is new.
    fn entry(&self, id: &str, limit: usize, store: Arc<Store>) -> Result<Found<K>, Error> {
        let mut entries = self.entries();
        if let Some(entry) = entries.get(id) {
            return Ok((Arc::clone(entry), None));
        }
        if entries.len() >= limit {
            let message = format!(
                "{limit} {}s are established here already: no more are taken",
                K::NAME
            );
            return Err(Error::new(Code::ResourceExhausted, message));
        }
        let entry = Arc::new(Entry {
            state: Arc::new(AsyncMutex::new(State {
                item: None,
                own: None,
                bringer: None,
                kept: false,
                place: None,
                gone: false,
            })),
            store,
        });
        let turn = Arc::clone(&entry.state).try_lock_owned().ok();
        entries.insert(id.to_owned(), Arc::clone(&entry));
        Ok((entry, turn))
    }

    /// Waits for the item's turn, no longer than the caller does.
    async fn enter(
        self: &Arc<Self>,
        id: &str,
        deadline: Instant,
        limit: usize,
    ) -> Result<Turn<K>, Error> {
        loop {
            let (entry, turn) = self.entry(id, limit, Arc::default())?;
            let state = match turn {
                Some(turn) => turn,
                None => wait::<K>(&entry, id, deadline).await?,
            };
            if !state.gone {
                return Ok(self.turn(id, &entry, state));
            }
        }
    }

    /// Waits for the turn of an item that is here already; `None` when it is gone.
    async fn enter_known(
        self: &Arc<Self>,
        id: &str,
        deadline: Instant,
    ) -> Result<Option<Turn<K>>, Error> {
        loop {
            let Some(entry) = self.entries().get(id).cloned() else {
                return Ok(None);
            };
            let state = wait::<K>(&entry, id, deadline).await?;
            if !state.gone {
                return Ok(Some(self.turn(id, &entry, state)));
            }
        }
    }

    fn turn(
        self: &Arc<Self>,
        id: &str,
        entry: &Entry<K>,
        state: OwnedMutexGuard<State<K>>,
    ) -> Turn<K> {
        Turn {
            id: id.to_owned(),
            table: Arc::clone(self),
            store: Arc::clone(&entry.store),
            state,
        }
    }

    /// Runs the rest of the list in a task of its own, with the call lent to it.
    async fn detached<T, F, R>(
        &self,
        id: &str,
        call: &mut Call,
        store: &Arc<Store>,
        work: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(Call) -> R + Send + 'static,
        R: Future<Output = (Call, Result<T, Error>)> + Send,
    {
        let mut inner = std::mem::replace(call, Call::local(call.deadline));
        inner.store = Arc::clone(store);
        let (send, receive) = oneshot::channel();
        self.tasks.finish(async move {
            let _caller_gave_up = send.send(work(inner).await);
        });
        let (inner, answer) = receive.await.map_err(|_| {
            Error::new(
                Code::Internal,
                format!("{} {id}: its handler panicked; see the log", K::NAME),
            )
        })?;
        *call = inner;
        answer
    }
}

async fn wait<K: Kind>(
    entry: &Entry<K>,
    id: &str,
    deadline: Instant,
) -> Result<OwnedMutexGuard<State<K>>, Error> {
    let turn = timeout_at(deadline, Arc::clone(&entry.state).lock_owned());
    turn.await.map_err(|_| {
        let message = format!(
            "{} {id}: an earlier request for it took all the time",
            K::NAME
        );
        Error::new(Code::DeadlineExceeded, message)
    })
}

// === impl Turn ===

impl<K: Kind> Turn<K> {
    /// A new item has to be let in; one that stands is refreshed whatever else is asked for.
    fn admit(&mut self, call: &Call) -> Result<Option<Beginning>, Error> {
        let Some(caller) = call.caller.as_ref().filter(|_| self.state.item.is_none()) else {
            return Ok(None);
        };
        // The client itself stands at the first segment; registrations have none of ours.
        let hop = call.own.as_ref().is_none_or(|own| own.index > 1);
        let (place, beginning) = self.table.gate.admit(&caller.id, hop, K::NAME)?;
        self.state.place = Some(place);
        Ok(Some(beginning))
    }

    async fn request(
        &mut self,
        call: &mut Call,
        request: K::Request,
        next: &Next<K>,
    ) -> Result<K::Item, Error> {
        call.scratch.put(Factory {
            id: self.id.clone(),
            table: Arc::downgrade(&self.table),
            next: next.downgrade(),
        });
        let item = next.request(call, request.clone()).await?;
        self.state.item = Some((request, item.clone()));
        self.state.own.clone_from(&call.own);
        if let Some(caller) = &call.caller {
            self.state.bringer = Some(caller.id.clone());
        }
        self.keep();
        Ok(item)
    }

    /// The item is known until its close has gone all the way: one that is broken off can be
    /// tried again.
    async fn close(&mut self, call: &mut Call, item: K::Item, next: &Next<K>) -> Result<(), Error> {
        let known = self.state.item.as_ref().map(|(_, known)| known.clone());
        let known = known.map(|mut known| {
            K::dress(&mut known, &item);
            known
        });
        if self.state.own.is_some() {
            call.own.clone_from(&self.state.own);
        }
        if let Some(noting) = self.noting() {
            call.scratch.put(noting);
        }
        let answer = next.close(call, known.unwrap_or(item)).await;
        self.state.item = None;
        answer
    }
}
