//! A store that lives as long as its process: tests, the simulator, and registries that need not
//! remember.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;

use super::{Change, Entry, Expect, Listing, Store, StoreError, Watch, log::Log};

/// See the module.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    log: Log,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Arc<str>, Entry>,
    revision: u64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            log: Log::new(0),
        }
    }
}

impl MemoryStore {
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

    async fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError> {
        self.log.watch(prefix, after)
    }
}
