//! The thread that writes: takes what is queued, commits it as one, answers each.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use redb::{
    Database, Durability, ReadableTable as _, ReadableTableMetadata as _, Table, WriteTransaction,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{disk::Disk, file, row};
use crate::{
    store::{Change, Entry, Expect, StoreError, log::Log},
    watch::MAX_DELETIONS,
};

/// How many writes share a commit at most: above that the first of them would wait for the last.
const GROUP: usize = 256;

/// How long after a failure the next write is tried: a disk that is full stays so for a while.
const RETRY: Duration = Duration::from_millis(500);

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
    disk: Arc<Disk>,
    log: Arc<Log>,
    revision: u64,
    /// The failure that no write has overcome yet.
    failed: Option<(Instant, StoreError)>,
}

type Outcome = Result<Option<Change>, StoreError>;

impl Writer {
    pub(super) fn new(disk: Arc<Disk>, log: Arc<Log>, revision: u64) -> Self {
        Self {
            disk,
            log,
            revision,
            failed: None,
        }
    }

    /// Until the store is dropped and its queue is empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut group, GROUP) > 0 {
            match self.ready().and_then(|()| self.commit(&group)) {
                Ok((outcomes, revision)) => {
                    if self.failed.take().is_some() {
                        tracing::info!(path = ?self.disk.path(), "the registry's store takes writes again");
                    }
                    self.answer(&mut group, outcomes, revision);
                }
                Err(error) => {
                    self.fail(&error);
                    for job in group.drain(..) {
                        let _caller_gave_up = job.answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// After a failure the file is opened again, but not for every write.
    fn ready(&mut self) -> Result<(), StoreError> {
        match &self.failed {
            Some((at, error)) if at.elapsed() < RETRY => return Err(error.clone()),
            Some(_) => {}
            None => return Ok(()),
        }
        let revision = self.disk.reopen()?;
        if revision != self.revision {
            // What failed is there after all: nobody was told.
            self.log.cut(revision);
            self.revision = revision;
        }
        Ok(())
    }

    fn fail(&mut self, error: &StoreError) {
        match &mut self.failed {
            Some((at, known)) if known == error => {
                if at.elapsed() >= RETRY {
                    *at = Instant::now();
                }
            }
            failed => {
                tracing::error!(%error, "the registry's store takes no writes; reads go on");
                *failed = Some((Instant::now(), error.clone()));
            }
        }
    }

    fn commit(&self, group: &[Job]) -> Result<(Vec<Outcome>, u64), StoreError> {
        self.disk
            .with("written", |database| commit(database, group, self.revision))
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

fn commit(
    database: &Database,
    group: &[Job],
    before: u64,
) -> Result<(Vec<Outcome>, u64), redb::Error> {
    let mut transaction: WriteTransaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let mut revision = before;
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
    if revision == before {
        transaction.abort()?;
    } else {
        transaction.commit()?;
    }
    Ok((outcomes, revision))
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
