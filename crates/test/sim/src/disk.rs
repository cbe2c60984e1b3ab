//! The registry's disk: it outlives its process, fails for a while, and may lose what was written
//! last when the process ends.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use nsm_registry::store::{Entry, Expect, Listing, Store, StoreError, Watch, memory::MemoryStore};

use crate::process::Process;

/// A disk; a clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    store: Arc<MemoryStore>,
    fails: bool,
}

/// The disk as one process has it open.
#[derive(Debug)]
struct Opened {
    disk: Disk,
    process: Arc<Process>,
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens it for a process.
    #[must_use]
    pub fn open(&self, process: &Arc<Process>) -> Arc<dyn Store> {
        Arc::new(Opened {
            disk: self.clone(),
            process: Arc::clone(process),
        })
    }

    /// Whether writes work.
    #[must_use]
    pub fn works(&self) -> bool {
        !self.state().fails
    }

    /// From now on writes fail, or work again.
    pub fn fail(&self, fails: bool) {
        self.state().fails = fails;
    }
}

impl Opened {
    fn store(&self) -> Result<Arc<MemoryStore>, StoreError> {
        if self.process.alive() {
            Ok(Arc::clone(&self.disk.state().store))
        } else {
            Err(StoreError::Closed)
        }
    }

    /// A write takes a moment, in which the process may end.
    async fn write(&self) -> Result<Arc<MemoryStore>, StoreError> {
        tokio::task::yield_now().await;
        if self.disk.state().fails {
            return Err(StoreError::Io {
                path: "registry.redb".into(),
                doing: "written",
                cause: "no space left on device".to_owned(),
            });
        }
        self.store()
    }
}

#[async_trait]
impl Store for Opened {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store()?.get(key).await
    }

    async fn put(
        &self,
        key: &str,
        value: Arc<[u8]>,
        expect: Expect,
        lease: Option<SystemTime>,
    ) -> Result<u64, StoreError> {
        let store = self.write().await?;
        let done = store.put(key, value, expect, lease).await;
        tokio::task::yield_now().await;
        done
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Option<u64>, StoreError> {
        let store = self.write().await?;
        let done = store.delete(key, expect).await;
        tokio::task::yield_now().await;
        done
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.store()?.list(prefix).await
    }

    async fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError> {
        self.store()?.watch(prefix, after).await
    }
}
