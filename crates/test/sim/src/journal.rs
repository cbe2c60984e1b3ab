//! A process's journal: what it wrote down outlives it, but for what was not yet on the disk.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nsm_chain::{Journal, Written};
use tokio::{sync::oneshot, time::sleep};

use crate::{chance::Chance, process::Process};

/// How long a write may wait for its commit, milliseconds.
const COMMIT_MS: u64 = 5;

type Records = BTreeMap<String, Vec<u8>>;

/// The journals of a hop by kind; a clone is the same ones.
#[derive(Debug, Clone, Default)]
pub struct Journals(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<&'static str, Records>,
    /// Written, and not on the disk yet.
    queue: Vec<(&'static str, String, Option<Vec<u8>>)>,
    /// Who waits for that; dropped when it is.
    waited: Vec<oneshot::Sender<()>>,
    committing: bool,
    fails: bool,
}

/// One of them as one process has it open.
struct Opened {
    journals: Journals,
    table: &'static str,
    process: Arc<Process>,
    chance: Chance,
}

impl Journals {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process begins: what the one before had not committed is lost.
    #[must_use]
    pub fn open(
        &self,
        table: &'static str,
        process: &Arc<Process>,
        chance: &Chance,
    ) -> Arc<dyn Journal> {
        let mut state = self.state();
        // A process opens its journals before it writes to any.
        state.queue.clear();
        state.waited.clear();
        state.committing = false;
        Arc::new(Opened {
            journals: self.clone(),
            table,
            process: Arc::clone(process),
            chance: chance.clone(),
        })
    }

    /// The records of a kind, by id.
    #[must_use]
    pub fn records(&self, table: &'static str) -> Vec<(String, Vec<u8>)> {
        let state = self.state();
        let records = state.tables.get(table).cloned().unwrap_or_default();
        records.into_iter().collect()
    }

    /// How many records of a kind there are.
    #[must_use]
    pub fn of(&self, table: &'static str) -> usize {
        self.state().tables.get(table).map_or(0, BTreeMap::len)
    }

    /// From now on nothing is committed, or it is again.
    pub fn fail(&self, fails: bool) {
        self.state().fails = fails;
    }

    fn commit(&self) {
        let mut state = self.state();
        state.committing = false;
        state.waited.clear();
        if state.fails {
            return;
        }
        for (table, id, record) in std::mem::take(&mut state.queue) {
            let records = state.tables.entry(table).or_default();
            match record {
                Some(record) => records.insert(id, record),
                None => records.remove(&id),
            };
        }
    }
}

impl Opened {
    fn write(&self, id: &str, record: Option<Vec<u8>>) {
        if !self.process.alive() {
            return;
        }
        let mut state = self.journals.state();
        state.queue.push((self.table, id.to_owned(), record));
        if std::mem::replace(&mut state.committing, true) {
            return;
        }
        drop(state);
        let (journals, wait) = (self.journals.clone(), self.chance.between(0, COMMIT_MS));
        self.process.spawn(async move {
            sleep(Duration::from_millis(wait)).await;
            journals.commit();
        });
    }
}

impl Journal for Opened {
    fn keep(&self, id: &str, record: Vec<u8>) {
        self.write(id, Some(record));
    }

    fn forget(&self, id: &str) {
        self.write(id, None);
    }

    fn written(&self) -> Written {
        let (done, written) = Written::pending();
        let mut state = self.journals.state();
        if state.committing && !state.fails && self.process.alive() {
            state.waited.push(done);
        }
        written
    }
}
