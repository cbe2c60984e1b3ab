//! `begin`: one event at a time for each item, in order.
//!
//! *What it does*: gives each item (a connection by its id, an endpoint by its name) one entry
//! with a lock and a [`Store`], and runs what comes after it in the list under that lock.
//! *Where it stands*: after `updatepath`, which decides the id; before whatever remembers things.
//! *What it promises*: a caller that gave up while it waited is not executed later; one that gives
//! up while it is executed does not leave half of it done, since the rest runs in a task of its
//! own; a first request that failed leaves nothing; a refresh that failed leaves what was.
//! *On Close*: goes on for an id that it does not know as well, so that a hop which was restarted
//! still passes the Close on; the entry ends whatever happens further down.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use async_trait::async_trait;
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard, oneshot},
    time::{Instant, timeout_at},
};

use crate::{Call, Code, Element, Error, Kind, Next, Store, Tasks, call::Own};

/// The most items that one role holds: beyond it new ones are refused, so that a flood of ids
/// cannot take the memory that established connections need (about 4 KiB each).
pub const MAX_ITEMS: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub struct Begin<K: Kind>(Arc<Table<K>>);

#[derive(Debug)]
struct Table<K: Kind> {
    entries: Mutex<HashMap<String, Arc<Entry<K>>>>,
    tasks: Tasks,
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
    /// The entry has left the table; whoever waited for it looks again.
    gone: bool,
}

/// A way back to an item between two calls: its lease ends, its far end goes down.
///
/// It keeps neither the item nor the role alive.
pub struct Factory<K: Kind> {
    id: String,
    table: Weak<Table<K>>,
    next: Next<K>,
}

impl<K: Kind> Clone for Factory<K> {
    fn clone(&self) -> Self {
        Self {
            id: self.id.clone(),
            table: Weak::clone(&self.table),
            next: self.next.clone(),
        }
    }
}

impl<K: Kind> std::fmt::Debug for Factory<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Factory({} {})", K::NAME, self.id)
    }
}

/// A turn at an item: its table, a call with its store, its lock.
type Turn<K> = (Arc<Table<K>>, Call, OwnedMutexGuard<State<K>>);

// === impl Begin ===

impl<K: Kind> Begin<K> {
    /// The element; `tasks` owns the work that goes on after a caller gave up.
    #[must_use]
    pub fn new(tasks: Tasks) -> Self {
        Self(Arc::new(Table {
            entries: Mutex::default(),
            tasks,
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
        let (entry, guard) = self.0.enter(&id, call.deadline).await?;
        let table = Arc::clone(&self.0);
        self.0
            .detached(call, entry, move |mut inner| async move {
                let answer = table.request(&id, &mut inner, request, &next, guard).await;
                (inner, answer)
            })
            .await
    }

    async fn close(&self, call: &mut Call, item: K::Item, next: Next<K>) -> Result<(), Error> {
        let id = K::id(&item).to_owned();
        let (entry, guard) = self.0.enter(&id, call.deadline).await?;
        let table = Arc::clone(&self.0);
        self.0
            .detached(call, entry, move |mut inner| async move {
                let answer = table.close(&id, &mut inner, item, &next, guard).await;
                (inner, answer)
            })
            .await
    }
}

// === impl Table ===

impl<K: Kind> Table<K> {
    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Entry<K>>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, id: &str) -> Result<Arc<Entry<K>>, Error> {
        let mut entries = self.entries();
        if let Some(entry) = entries.get(id) {
            return Ok(Arc::clone(entry));
        }
        if entries.len() >= MAX_ITEMS {
            let message = format!(
                "{MAX_ITEMS} {}s are established here already: no more are taken",
                K::NAME
            );
            return Err(Error::new(Code::ResourceExhausted, message));
        }
        let entry = Arc::new(Entry {
            state: Arc::new(AsyncMutex::new(State {
                item: None,
                own: None,
                gone: false,
            })),
            store: Arc::default(),
        });
        entries.insert(id.to_owned(), Arc::clone(&entry));
        Ok(entry)
    }

    /// Waits for the item's turn, no longer than the caller does.
    async fn enter(
        &self,
        id: &str,
        deadline: Instant,
    ) -> Result<(Arc<Entry<K>>, OwnedMutexGuard<State<K>>), Error> {
        loop {
            let entry = self.entry(id)?;
            let turn = timeout_at(deadline, Arc::clone(&entry.state).lock_owned());
            let guard = turn.await.map_err(|_| {
                let message = format!(
                    "{} {id}: an earlier request for it took all the time",
                    K::NAME
                );
                Error::new(Code::DeadlineExceeded, message)
            })?;
            if !guard.gone {
                return Ok((entry, guard));
            }
        }
    }

    /// Runs the rest of the list in a task of its own, with the call lent to it.
    async fn detached<T, F, R>(
        &self,
        call: &mut Call,
        entry: Arc<Entry<K>>,
        work: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(Call) -> R + Send + 'static,
        R: Future<Output = (Call, Result<T, Error>)> + Send,
    {
        let mut inner = std::mem::replace(call, Call::local(call.deadline));
        inner.store = Arc::clone(&entry.store);
        let (send, receive) = oneshot::channel();
        self.tasks.finish(async move {
            let _caller_gave_up = send.send(work(inner).await);
        });
        let (inner, answer) = receive.await.map_err(|_| {
            Error::new(
                Code::Internal,
                format!("{}: its handler panicked; see the log", K::NAME),
            )
        })?;
        *call = inner;
        answer
    }

    async fn request(
        self: &Arc<Self>,
        id: &str,
        call: &mut Call,
        request: K::Request,
        next: &Next<K>,
        mut state: OwnedMutexGuard<State<K>>,
    ) -> Result<K::Item, Error> {
        call.scratch.put(Factory {
            id: id.to_owned(),
            table: Arc::downgrade(self),
            next: next.clone(),
        });
        let answer = next.request(call, request.clone()).await;
        match &answer {
            Ok(item) => {
                state.item = Some((request, item.clone()));
                state.own.clone_from(&call.own);
            }
            Err(_) if state.item.is_none() => self.leave(id, &mut state),
            Err(_) => {}
        }
        answer
    }

    async fn close(
        &self,
        id: &str,
        call: &mut Call,
        item: K::Item,
        next: &Next<K>,
        mut state: OwnedMutexGuard<State<K>>,
    ) -> Result<(), Error> {
        let item = state.item.take().map_or(item, |(_, known)| known);
        let answer = next.close(call, item).await;
        self.leave(id, &mut state);
        answer
    }

    fn leave(&self, id: &str, state: &mut State<K>) {
        state.gone = true;
        self.entries().remove(id);
    }
}

// === impl Factory ===

impl<K: Kind> Factory<K> {
    /// The factory of the call in hand, put there by `begin`.
    ///
    /// # Errors
    /// A list without `begin` before the element that asks.
    pub fn of(call: &Call) -> Result<Self, Error> {
        call.scratch.get::<Self>().ok_or_else(|| {
            Error::new(
                Code::Internal,
                "this role's list has no `begin` before the element that needs it",
            )
        })
    }

    /// Closes the item from here on down the list, unless it is gone.
    ///
    /// # Errors
    /// Every failure on the way, joined.
    pub async fn close(&self, deadline: Instant) -> Result<(), Error> {
        let Some((table, mut call, guard)) = self.enter(deadline).await? else {
            return Ok(());
        };
        let Some((_, item)) = guard.item.clone() else {
            return Ok(());
        };
        table
            .close(&self.id, &mut call, item, &self.next, guard)
            .await
    }

    /// Waits until nobody works on the item, or it is gone.
    ///
    /// # Errors
    /// Somebody still does at the deadline.
    pub async fn settled(&self, deadline: Instant) -> Result<(), Error> {
        self.enter(deadline).await.map(drop)
    }

    /// Asks for the item again from here on down the list, after `change` has changed the request:
    /// `None` when it is gone.
    ///
    /// # Errors
    /// The first cause; the item stays as it was.
    pub async fn again(
        &self,
        deadline: Instant,
        change: impl FnOnce(&mut K::Request) + Send,
    ) -> Result<Option<K::Item>, Error> {
        let Some((table, mut call, guard)) = self.enter(deadline).await? else {
            return Ok(None);
        };
        let Some((request, item)) = &guard.item else {
            return Ok(None);
        };
        let mut request = K::renew(request, item);
        change(&mut request);
        table
            .request(&self.id, &mut call, request, &self.next, guard)
            .await
            .map(Some)
    }

    /// The item's turn, unless it is gone.
    async fn enter(&self, deadline: Instant) -> Result<Option<Turn<K>>, Error> {
        let Some(table) = self.table.upgrade() else {
            return Ok(None);
        };
        let known = table.entries().contains_key(&self.id);
        if !known {
            return Ok(None);
        }
        let (entry, guard) = table.enter(&self.id, deadline).await?;
        let mut call = Call::local(deadline);
        call.store = Arc::clone(&entry.store);
        call.own.clone_from(&guard.own);
        Ok(Some((table, call, guard)))
    }
}
