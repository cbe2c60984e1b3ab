//! Who watches what: a change finds its watchers by index, and waits for none of them.
//!
//! A watcher sees the records that its query matches, then every change to them, in the order of
//! their revisions: both are taken under one lock, so that there is no gap and no duplicate. A
//! record that ceases to match is a deletion to the watcher. Each watcher has a queue of its own;
//! one that lets it fill up is cut off with `ResourceExhausted` and hurts nobody else.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak},
    time::SystemTime,
};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use nsm_chain::{Code, Error};
use tokio::sync::{mpsc, watch};

use crate::{
    index::{Index, Stored},
    record::Record,
};

mod changes;
mod table;

use changes::Changes;
pub(crate) use changes::MAX_DELETIONS;
use table::Table;

/// How many changes wait for a watcher before it is cut off: a manager that watches everything
/// survives the whole of a 4,000-endpoint node group registering at once; 24 bytes each.
pub const WATCH_QUEUE: usize = 4096;

/// How many watchers one registry serves: 5,000 managers with three streams each.
pub const MAX_WATCHERS: usize = 16_384;

/// A change as a watcher sees it.
pub struct Event<R: Record> {
    /// The record; of a deletion, as it was last.
    pub item: Arc<R::Item>,
    /// Whether it is gone, or no longer what the watcher asked for.
    pub deleted: bool,
    /// The revision of the write; that of the record itself among the first ones.
    pub revision: u64,
}

/// The records of one kind, and their watchers.
pub struct View<R: Record> {
    state: RwLock<State<R>>,
    applied: watch::Sender<u64>,
    queue: usize,
}

struct State<R: Record> {
    index: Index<R>,
    table: Table<R>,
    changes: Changes,
}

/// A write, read from the store.
pub(crate) enum Write<R: Record> {
    Put(Stored<R>),
    Delete { name: Arc<str>, revision: u64 },
}

/// A watcher's end of its stream; dropping it ends the watch.
pub struct Subscription<R: Record> {
    first: VecDeque<Event<R>>,
    /// The revision up to which the first events tell everything.
    at: u64,
    live: mpsc::Receiver<Event<R>>,
    end: Arc<OnceLock<Error>>,
    id: u64,
    view: Weak<View<R>>,
}

// === impl View ===

impl<R: Record> View<R> {
    pub(crate) fn new(queue: usize) -> Self {
        let state = State {
            index: Index::default(),
            table: Table::default(),
            changes: Changes::default(),
        };
        Self {
            state: RwLock::new(state),
            applied: watch::Sender::new(0),
            queue,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State<R>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<R>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the index.
    pub fn with<T>(&self, look: impl FnOnce(&Index<R>) -> T) -> T {
        look(&self.read().index)
    }

    /// How many watchers there are.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.read().table.len()
    }

    /// Takes writes over and tells their watchers; `revision` is that of the last one.
    pub(crate) fn apply(&self, writes: Vec<Write<R>>, revision: u64) {
        {
            let mut state = self.write();
            for write in writes {
                state.apply(write);
            }
        }
        self.applied
            .send_modify(|applied| *applied = revision.max(*applied));
    }

    /// Takes a whole listing over: what differs is a change, what it lacks is a deletion.
    pub(crate) fn replace(&self, listing: Vec<Stored<R>>, revision: u64) {
        {
            let mut state = self.write();
            let listed: std::collections::BTreeSet<&str> =
                listing.iter().map(|stored| R::id(&stored.item)).collect();
            let gone = state
                .index
                .names()
                .filter(|name| !listed.contains(&***name))
                .map(Arc::clone);
            let gone: Vec<Arc<str>> = gone.collect();
            for name in gone {
                state.apply(Write::Delete { name, revision });
            }
            for stored in listing {
                let same = state
                    .index
                    .get(R::id(&stored.item))
                    .is_some_and(|known| known.item == stored.item);
                if !same {
                    state.apply(Write::Put(stored));
                }
            }
        }
        self.applied
            .send_modify(|applied| *applied = revision.max(*applied));
    }

    /// Waits until a write is in the index.
    pub(crate) async fn applied(&self, revision: u64) {
        let mut applied = self.applied.subscribe();
        let _sender_lives_in_self = applied.wait_for(|applied| *applied >= revision).await;
    }

    /// Begins a watch: what matches now, then every change.
    ///
    /// # Errors
    /// `ResourceExhausted` beyond [`MAX_WATCHERS`].
    pub(crate) fn watch(
        self: &Arc<Self>,
        query: R::Item,
        now: Option<SystemTime>,
    ) -> Result<Subscription<R>, Error> {
        let mut state = self.write();
        let first = state.index.find(&query, now).into_iter().map(|item| Event {
            revision: state
                .index
                .get(R::id(&item))
                .map_or(0, |stored| stored.revision),
            item,
            deleted: false,
        });
        let first = first.collect();
        self.subscribe(&mut state, first, query)
    }

    /// Begins a watch of everything for somebody who has seen what was before this revision;
    /// `None` if what changed since is not known any more.
    ///
    /// # Errors
    /// As [`View::watch`].
    pub(crate) fn resume(
        self: &Arc<Self>,
        revision: u64,
    ) -> Result<Option<Subscription<R>>, Error> {
        let mut state = self.write();
        // What lies ahead of us is of another registry that knows more, or of a life that was
        // taken back: everything is right in both cases.
        let behind = revision <= *self.applied.borrow();
        let Some(changed) = state.changes.from(revision).filter(|_| behind) else {
            return Ok(None);
        };
        let first = changed.iter().filter_map(|change| {
            let item = if change.deleted {
                Arc::new(R::named(change.name))
            } else {
                state.index.get(change.name)?.item
            };
            Some(Event {
                item,
                deleted: change.deleted,
                revision: change.revision,
            })
        });
        let first = first.collect();
        self.subscribe(&mut state, first, R::Item::default())
            .map(Some)
    }

    fn subscribe(
        self: &Arc<Self>,
        state: &mut State<R>,
        first: VecDeque<Event<R>>,
        query: R::Item,
    ) -> Result<Subscription<R>, Error> {
        if state.table.len() >= MAX_WATCHERS {
            let message = format!(
                "{MAX_WATCHERS} watchers are served here already: start another registry, or close some"
            );
            return Err(Error::new(Code::ResourceExhausted, message));
        }
        let (send, live) = mpsc::channel(self.queue);
        let end = Arc::new(OnceLock::new());
        let id = state.table.insert(query, send, Arc::clone(&end));
        Ok(Subscription {
            first,
            at: *self.applied.borrow(),
            live,
            end,
            id,
            view: Arc::downgrade(self),
        })
    }

    /// Deletions from before this process, of which all after `since` are known.
    pub(crate) fn remember(&self, gone: Vec<(Arc<str>, u64)>, since: u64) {
        self.write().changes.remember(gone, since);
    }
}

impl<R: Record> State<R> {
    fn apply(&mut self, write: Write<R>) {
        match write {
            Write::Put(Stored { item, revision }) => {
                let name: Arc<str> = R::id(&item).into();
                let before = self.index.get(&name).map(|stored| stored.revision);
                self.changes.put(&name, before, revision);
                let old = self.index.put(Arc::clone(&item), revision);
                self.table.tell(old.as_ref(), Some(&item), revision);
            }
            Write::Delete { name, revision } => {
                let before = self.index.get(&name).map(|stored| stored.revision);
                self.changes.delete(&name, before, revision);
                let old = self.index.remove(&name);
                self.table.tell(old.as_ref(), None, revision);
            }
        }
    }
}

impl<R: Record> fmt::Debug for View<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.read();
        write!(
            f,
            "View({} {}s, {} watchers)",
            state.index.len(),
            R::NAME,
            state.table.len()
        )
    }
}

// === impl Event ===

impl<R: Record> Clone for Event<R> {
    fn clone(&self) -> Self {
        Self {
            item: Arc::clone(&self.item),
            deleted: self.deleted,
            revision: self.revision,
        }
    }
}

impl<R: Record> fmt::Debug for Event<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.deleted { "-" } else { "+" };
        write!(f, "Event({what}{} at {})", R::id(&self.item), self.revision)
    }
}

// === impl Subscription ===

impl<R: Record> Subscription<R> {
    /// The revision up to which the first events tell everything: those that
    /// [`Subscription::is_first`] says are left.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Whether the next event is one of the first ones.
    #[must_use]
    pub fn is_first(&self) -> bool {
        !self.first.is_empty()
    }

    /// The next event.
    ///
    /// # Errors
    /// `ResourceExhausted` once what was queued is read if this watcher was too slow;
    /// `Unavailable` if the registry stops.
    pub async fn next(&mut self) -> Result<Event<R>, Error> {
        if let Some(event) = self.first.pop_front() {
            return Ok(event);
        }
        match self.live.recv().await {
            Some(event) => Ok(event),
            None => Err(self.end.get().cloned().unwrap_or_else(|| {
                Error::new(
                    Code::Unavailable,
                    "the registry stops: watch again, here or at another one",
                )
            })),
        }
    }
}

impl<R: Record> Subscription<R> {
    /// Every event to come; the error that ends the watch is the last item.
    #[must_use]
    pub fn into_events(self) -> BoxStream<'static, Result<Event<R>, Error>> {
        stream::unfold(Some(self), async |watch| {
            let mut watch = watch?;
            match watch.next().await {
                Ok(event) => Some((Ok(event), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }
}

impl<R: Record> Drop for Subscription<R> {
    fn drop(&mut self) {
        if let Some(view) = self.view.upgrade() {
            view.write().table.remove(self.id);
        }
    }
}

impl<R: Record> fmt::Debug for Subscription<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Subscription({}s, {} queued)",
            R::NAME,
            self.first.len() + self.live.len()
        )
    }
}
