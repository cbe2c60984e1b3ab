//! A store that lives as long as its process: tests, the simulator, and registries that need not
//! remember.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;

use super::{Age, Change, Entry, Expect, Listing, Past, Store, StoreError, Watch, age, log::Log};
use crate::watch::MAX_DELETIONS;

/// See the module.
#[derive(Debug)]
pub struct MemoryStore {
    age: u64,
    state: Mutex<State>,
    log: Log,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Arc<str>, Entry>,
    deleted: VecDeque<(Arc<str>, u64)>,
    /// Every deletion after this revision is in `deleted`.
    since: u64,
    revision: u64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::of_age(age().unwrap_or(0))
    }
}

impl MemoryStore {
    /// A store whose life has this name: for who has randomness of his own.
    #[must_use]
    pub fn of_age(age: u64) -> Self {
        Self {
            age,
            state: Mutex::default(),
            log: Log::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.state().entries.get(key).cloned())
    }

    async fn put(
        &self,
        key: &str,
        value: Arc<[u8]>,
        expect: Expect,
        lease: Option<SystemTime>,
    ) -> Result<u64, StoreError> {
        let mut state = self.state();
        expect.check(key, state.entries.get(key).map(|entry| entry.revision))?;
        state.revision += 1;
        let entry = Entry {
            key: key.into(),
            value,
            revision: state.revision,
            lease,
        };
        state.entries.insert(Arc::clone(&entry.key), entry.clone());
        let revision = entry.revision;
        self.log.publish(vec![Change::Put(entry)]);
        Ok(revision)
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Option<u64>, StoreError> {
        let mut state = self.state();
        expect.check(key, state.entries.get(key).map(|entry| entry.revision))?;
        let Some((key, _)) = state.entries.remove_entry(key) else {
            return Ok(None);
        };
        state.revision += 1;
        let revision = state.revision;
        state.deleted.push_back((Arc::clone(&key), revision));
        if state.deleted.len() > MAX_DELETIONS
            && let Some((_, forgotten)) = state.deleted.pop_front()
        {
            state.since = forgotten;
        }
        self.log.publish(vec![Change::Delete { key, revision }]);
        Ok(Some(revision))
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let state = self.state();
        let from: Arc<str> = prefix.into();
        let below = state
            .entries
            .range(from..)
            .take_while(|(key, _)| key.starts_with(prefix));
        Ok(Listing {
            entries: below.map(|(_, entry)| entry.clone()).collect(),
            revision: state.revision,
        })
    }

    async fn past(&self, prefix: &str, _listed: u64) -> Result<Past, StoreError> {
        let state = self.state();
        let below = |(key, _): &&(Arc<str>, u64)| key.starts_with(prefix);
        Ok(Past {
            ages: vec![Age {
                name: self.age,
                from: 0,
            }],
            since: state.since,
            deleted: state.deleted.iter().filter(below).cloned().collect(),
        })
    }

    async fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError> {
        self.log.watch(prefix, after)
    }
}
