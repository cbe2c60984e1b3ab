//! A journal in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nsm_chain::Journal;

/// The records that outlive a role; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Disk {
    /// What a restart finds, by id.
    #[must_use]
    pub fn records(&self) -> Vec<(String, Vec<u8>)> {
        self.all().clone().into_iter().collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for Disk {
    fn keep(&self, id: &str, record: Vec<u8>) {
        self.all().insert(id.to_owned(), record);
    }

    fn forget(&self, id: &str) {
        self.all().remove(id);
    }
}
