//! The watchers of one kind of record, each listed under the most telling term of its query.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use nsm_chain::{Code, Error};
use tokio::sync::mpsc;

use super::Event;
use crate::record::{Record, Term};

/// See the module.
pub(super) struct Table<R: Record> {
    watchers: BTreeMap<u64, Watcher<R>>,
    /// Which watchers to ask about a record that has this term.
    by_term: BTreeMap<Term, BTreeSet<u64>>,
    /// Those whose query names no term: they are asked about every record.
    any: BTreeSet<u64>,
    next: u64,
}

struct Watcher<R: Record> {
    query: R::Item,
    place: Option<Term>,
    send: mpsc::Sender<Event<R>>,
    end: Arc<OnceLock<Error>>,
}

impl<R: Record> Default for Table<R> {
    fn default() -> Self {
        Self {
            watchers: BTreeMap::new(),
            by_term: BTreeMap::new(),
            any: BTreeSet::new(),
            next: 0,
        }
    }
}

impl<R: Record> Table<R> {
    pub(super) fn len(&self) -> usize {
        self.watchers.len()
    }

    pub(super) fn insert(
        &mut self,
        query: R::Item,
        send: mpsc::Sender<Event<R>>,
        end: Arc<OnceLock<Error>>,
    ) -> u64 {
        let id = self.next;
        self.next += 1;
        let mut wanted = R::wanted(&query);
        if !R::id(&query).is_empty() {
            wanted.push(Term::Name(R::id(&query).to_owned()));
        }
        let place = wanted.into_iter().min();
        match &place {
            Some(term) => self.by_term.entry(term.clone()).or_default().insert(id),
            None => self.any.insert(id),
        };
        self.watchers.insert(
            id,
            Watcher {
                query,
                place,
                send,
                end,
            },
        );
        id
    }

    pub(super) fn remove(&mut self, id: u64) {
        let Some(watcher) = self.watchers.remove(&id) else {
            return;
        };
        let Some(term) = watcher.place else {
            self.any.remove(&id);
            return;
        };
        if let Some(list) = self.by_term.get_mut(&term) {
            list.remove(&id);
            if list.is_empty() {
                self.by_term.remove(&term);
            }
        }
    }

    /// Tells whoever asked for the record as it was, or as it is now.
    pub(super) fn tell(
        &mut self,
        old: Option<&Arc<R::Item>>,
        new: Option<&Arc<R::Item>>,
        revision: u64,
    ) {
        let mut cut = Vec::new();
        for id in self.interested(old, new) {
            let Some(watcher) = self.watchers.get(&id) else {
                continue;
            };
            let wants = |item: &&Arc<R::Item>| R::matches(&watcher.query, item);
            let (item, deleted) = match (old.filter(wants), new.filter(wants)) {
                (_, Some(new)) => (new, false),
                (Some(old), None) => (old, true),
                (None, None) => continue,
            };
            if !watcher.tell(Event {
                item: Arc::clone(item),
                deleted,
                revision,
            }) {
                cut.push(id);
            }
        }
        for id in cut {
            self.remove(id);
        }
    }

    fn interested(&self, old: Option<&Arc<R::Item>>, new: Option<&Arc<R::Item>>) -> BTreeSet<u64> {
        let mut ids = self.any.clone();
        if self.by_term.is_empty() {
            return ids;
        }
        for item in old.into_iter().chain(new) {
            let name = Term::Name(R::id(item).to_owned());
            for term in R::terms(item).iter().chain([&name]) {
                ids.extend(self.by_term.get(term).into_iter().flatten());
            }
        }
        ids
    }
}

impl<R: Record> Watcher<R> {
    /// False if this watcher is to be forgotten: it left, or it is too slow.
    fn tell(&self, event: Event<R>) -> bool {
        match self.send.try_send(event) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                let queue = self.send.max_capacity();
                let message = format!(
                    "this watch of {}s fell {queue} changes behind and was cut off: watch again, and read faster",
                    R::NAME
                );
                tracing::warn!(kind = R::NAME, queue, "a slow watcher is cut off");
                let _already_ended = self.end.set(Error::new(Code::ResourceExhausted, message));
                false
            }
        }
    }
}
