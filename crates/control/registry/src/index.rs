//! What is registered, in memory, found without a scan.
//!
//! Every record has a slot; each [`Term`] that it is found by lists the slots that have it. A query
//! walks the shortest of the lists that it asks for and checks each record on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use nsm_policy::input::PathIds;

use crate::record::{Record, Term};

type SlotId = u32;

/// See the module.
#[derive(Debug)]
pub struct Index<R: Record> {
    slots: Vec<Option<Slot<R>>>,
    free: Vec<SlotId>,
    names: BTreeMap<Arc<str>, SlotId>,
    postings: BTreeMap<Term, BTreeSet<SlotId>>,
    expiries: BTreeSet<(SystemTime, SlotId)>,
}

#[derive(Debug)]
struct Slot<R: Record> {
    item: Arc<R::Item>,
    revision: u64,
    terms: Vec<Term>,
    expires: Option<SystemTime>,
}

/// A record with the revision of the write that put it there.
#[derive(Debug, Clone)]
pub struct Stored<R: Record> {
    /// The record.
    pub item: Arc<R::Item>,
    /// The write's revision.
    pub revision: u64,
}

impl<R: Record> Default for Index<R> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            names: BTreeMap::new(),
            postings: BTreeMap::new(),
            expiries: BTreeSet::new(),
        }
    }
}

impl<R: Record> Index<R> {
    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The record of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Stored<R>> {
        let slot = self.slot(*self.names.get(name)?)?;
        Some(Stored {
            item: Arc::clone(&slot.item),
            revision: slot.revision,
        })
    }

    /// Every name, in order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    /// Who registered what: each name's `path_ids`.
    #[must_use]
    pub fn path_ids(&self) -> PathIds {
        let items = self.slots.iter().flatten().map(|slot| &slot.item);
        items
            .map(|item| (R::id(item).to_owned(), R::path_ids(item).to_vec()))
            .collect()
    }

    /// Puts a record in place of the one of its name, which it returns.
    pub fn put(&mut self, item: Arc<R::Item>, revision: u64) -> Option<Arc<R::Item>> {
        let mut terms = R::terms(&item);
        terms.sort_unstable();
        terms.dedup();
        let expires = R::expires(&item);
        let known = self.names.get(R::id(&item)).copied();
        let Some(id) = known else {
            self.insert(item, revision, terms, expires);
            return None;
        };
        let slot = self.slots.get_mut(id as usize)?.as_mut()?;
        slot.revision = revision;
        let old_item = std::mem::replace(&mut slot.item, item);
        let old_expires = std::mem::replace(&mut slot.expires, expires);
        if old_expires != expires {
            self.unqueue(id, old_expires);
            self.queue(id, expires);
        }
        self.retag(id, terms);
        Some(old_item)
    }

    /// Takes a record out.
    pub fn remove(&mut self, name: &str) -> Option<Arc<R::Item>> {
        let id = self.names.remove(name)?;
        let slot = self.slots.get_mut(id as usize)?.take()?;
        self.free.push(id);
        self.unqueue(id, slot.expires);
        for term in &slot.terms {
            self.untag(id, term);
        }
        Some(slot.item)
    }

    /// The records that a query asks for, without those that ended before `now`.
    #[must_use]
    pub fn find(&self, query: &R::Item, now: Option<SystemTime>) -> Vec<Arc<R::Item>> {
        let fits = |slot: &&Slot<R>| {
            let ended = now.is_some_and(|now| slot.expires.is_some_and(|expires| expires <= now));
            !ended && R::matches(query, &slot.item)
        };
        let item = |slot: &Slot<R>| Arc::clone(&slot.item);
        if !R::id(query).is_empty() {
            let slot = self.names.get(R::id(query)).and_then(|id| self.slot(*id));
            return slot.into_iter().filter(fits).map(item).collect();
        }
        let wanted = R::wanted(query);
        if wanted.is_empty() {
            return self.slots.iter().flatten().filter(fits).map(item).collect();
        }
        let lists: Option<Vec<_>> = wanted.iter().map(|term| self.postings.get(term)).collect();
        let shortest = lists.and_then(|lists| lists.into_iter().min_by_key(|list| list.len()));
        let candidates = shortest
            .into_iter()
            .flatten()
            .filter_map(|id| self.slot(*id));
        candidates.filter(fits).map(item).collect()
    }

    /// When the next record ends.
    #[must_use]
    pub fn next_expiry(&self) -> Option<SystemTime> {
        self.expiries.first().map(|(expires, _)| *expires)
    }

    /// Records that have ended, the earliest first, at most this many.
    #[must_use]
    pub fn ended(&self, now: SystemTime, most: usize) -> Vec<Stored<R>> {
        let ended = self
            .expiries
            .iter()
            .take_while(|(expires, _)| *expires <= now)
            .take(most);
        ended
            .filter_map(|(_, id)| self.slot(*id))
            .map(|slot| Stored {
                item: Arc::clone(&slot.item),
                revision: slot.revision,
            })
            .collect()
    }

    fn slot(&self, id: SlotId) -> Option<&Slot<R>> {
        self.slots.get(id as usize)?.as_ref()
    }

    fn insert(
        &mut self,
        item: Arc<R::Item>,
        revision: u64,
        terms: Vec<Term>,
        expires: Option<SystemTime>,
    ) {
        let name: Arc<str> = R::id(&item).into();
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            SlotId::try_from(self.slots.len() - 1).unwrap_or(SlotId::MAX)
        });
        self.queue(id, expires);
        for term in &terms {
            self.postings.entry(term.clone()).or_default().insert(id);
        }
        self.names.insert(name, id);
        if let Some(place) = self.slots.get_mut(id as usize) {
            *place = Some(Slot {
                item,
                revision,
                terms,
                expires,
            });
        }
    }

    /// A refresh changes no term: then nothing is touched here.
    fn retag(&mut self, id: SlotId, terms: Vec<Term>) {
        let Some(slot) = self.slots.get_mut(id as usize).and_then(Option::as_mut) else {
            return;
        };
        if slot.terms == terms {
            return;
        }
        let old = std::mem::replace(&mut slot.terms, terms.clone());
        for term in old.iter().filter(|term| terms.binary_search(term).is_err()) {
            self.untag(id, term);
        }
        for term in terms {
            self.postings.entry(term).or_default().insert(id);
        }
    }

    fn untag(&mut self, id: SlotId, term: &Term) {
        let Some(list) = self.postings.get_mut(term) else {
            return;
        };
        list.remove(&id);
        if list.is_empty() {
            self.postings.remove(term);
        }
    }

    fn queue(&mut self, id: SlotId, expires: Option<SystemTime>) {
        self.expiries.extend(expires.map(|expires| (expires, id)));
    }

    fn unqueue(&mut self, id: SlotId, expires: Option<SystemTime>) {
        if let Some(expires) = expires {
            self.expiries.remove(&(expires, id));
        }
    }
}
