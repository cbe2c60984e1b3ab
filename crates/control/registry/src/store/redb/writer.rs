//! The thread that writes: takes what is queued, commits it as one, answers each.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use redb::{
    Database, Durability, ReadableTable as _, ReadableTableMetadata as _, Table, WriteTransaction,
};
use tokio::sync::{mpsc, oneshot};

use super::{file, row};
use crate::{
    store::{Change, Entry, Expect, StoreError, log::Log},
    watch::MAX_DELETIONS,
};

/// How many writes share a commit at most: above that the first of them would wait for the last.
const GROUP: usize = 256;

pub(super) enum Write {
    Put {
        value: Arc<[u8]>,
        lease: Option<SystemTime>,
    },
    Delete,
}

/// A write that somebody waits for.
pub(super) struct Job {
    pub(super) key: Arc<str>,
    pub(super) expect: Expect,
    pub(super) write: Write,
    pub(super) answer: oneshot::Sender<Result<Option<u64>, StoreError>>,
}

pub(super) struct Writer {
    path: Arc<PathBuf>,
    database: Arc<Database>,
    log: Arc<Log>,
    revision: u64,
}

type Outcome = Result<Option<Change>, StoreError>;

impl Writer {
    pub(super) fn new(
        path: Arc<PathBuf>,
        database: Arc<Database>,
        log: Arc<Log>,
        revision: u64,
    ) -> Self {
        Self {
            path,
            database,
            log,
            revision,
        }
    }

    /// Until the store is dropped and its queue is empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut group, GROUP) > 0 {
            match self.commit(&group) {
                Ok((outcomes, revision)) => self.answer(&mut group, outcomes, revision),
                Err(error) => {
                    let error = file::io(&self.path, "written", &error);
                    tracing::error!(%error, writes = group.len(), "the registry's store failed");
                    for job in group.drain(..) {
                        let _caller_gave_up = job.answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    fn commit(&self, group: &[Job]) -> Result<(Vec<Outcome>, u64), redb::Error> {
        let mut transaction: WriteTransaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let mut revision = self.revision;
        let mut outcomes = Vec::with_capacity(group.len());
        {
            let mut entries = transaction.open_table(file::ENTRIES)?;
            for job in group {
                outcomes.push(apply(&mut entries, job, &mut revision)?);
            }
            let mut meta = transaction.open_table(file::META)?;
            meta.insert(file::REVISION, revision)?;
            meta.insert(file::TOLD, revision)?;
            remember(&transaction, &mut meta, &outcomes)?;
        }
        if revision == self.revision {
            transaction.abort()?;
        } else {
            transaction.commit()?;
        }
        Ok((outcomes, revision))
    }

    /// Watchers are told before callers, so that who is answered finds the change on its way.
    fn answer(&mut self, group: &mut Vec<Job>, outcomes: Vec<Outcome>, revision: u64) {
        self.revision = revision;
        let changes = outcomes
            .iter()
            .filter_map(|outcome| outcome.as_ref().ok().cloned().flatten());
        self.log.publish(changes.collect());
        for (job, outcome) in group.drain(..).zip(outcomes) {
            let answer = outcome.map(|change| change.map(|change| change.revision()));
            let _caller_gave_up = job.answer.send(answer);
        }
    }
}

/// Writes down what was deleted, and lets the oldest go beyond the limit.
fn remember(
    transaction: &WriteTransaction,
    meta: &mut Table<'_, &'static str, u64>,
    outcomes: &[Outcome],
) -> Result<(), redb::Error> {
    let changes = outcomes
        .iter()
        .filter_map(|one| one.as_ref().ok()?.as_ref());
    let mut gone = changes
        .filter(|change| matches!(change, Change::Delete { .. }))
        .peekable();
    if gone.peek().is_none() {
        return Ok(());
    }
    let mut deleted = transaction.open_table(file::DELETED)?;
    for change in gone {
        deleted.insert(change.revision(), &**change.key())?;
    }
    while deleted.len()? > MAX_DELETIONS as u64 {
        let Some((forgotten, _)) = deleted.pop_first()? else {
            break;
        };
        meta.insert(file::SINCE, forgotten.value())?;
    }
    Ok(())
}

fn apply(
    entries: &mut Table<'_, &'static str, &'static [u8]>,
    job: &Job,
    revision: &mut u64,
) -> Result<Outcome, redb::Error> {
    let found = match entries.get(&*job.key)? {
        Some(found) => Some(row::decode(&job.key, found.value())?.revision),
        None => None,
    };
    if let Err(conflict) = job.expect.check(&job.key, found) {
        return Ok(Err(conflict));
    }
    let next = *revision + 1;
    let change = match &job.write {
        Write::Put { value, lease } => {
            let entry = Entry {
                key: Arc::clone(&job.key),
                value: Arc::clone(value),
                revision: next,
                lease: *lease,
            };
            entries.insert(&*job.key, row::encode(&entry).as_slice())?;
            Change::Put(entry)
        }
        Write::Delete if found.is_none() => return Ok(Ok(None)),
        Write::Delete => {
            entries.remove(&*job.key)?;
            Change::Delete {
                key: Arc::clone(&job.key),
                revision: next,
            }
        }
    };
    *revision = next;
    Ok(Ok(Some(change)))
}
