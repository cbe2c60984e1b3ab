//! The store on disk: one redb file.
//!
//! A single thread writes. Writers that come while it commits share the next commit, so that the
//! disk is waited for once a group and not once a write. A write is answered after its commit is on
//! disk: kill -9 loses no acknowledged write.

use std::{path::Path, sync::Arc, thread::JoinHandle, time::SystemTime};

use async_trait::async_trait;
use redb::{Database, ReadableDatabase as _};
use tokio::sync::{mpsc, oneshot};

use super::{Entry, Expect, Listing, Past, Store, StoreError, Watch, log::Log};

mod disk;
mod file;
mod row;
mod writer;

use disk::Disk;
use writer::{Job, Write};

/// How many writes wait for the disk before callers wait for a place in the queue.
const QUEUE: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct RedbStore {
    disk: Arc<Disk>,
    log: Arc<Log>,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl RedbStore {
    /// Opens the file, or makes it (mode 0600). It waits for the disk: call it at the start.
    ///
    /// # Errors
    /// A file of a newer version, a damaged one, one in use, or what the system says.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (disk, revision) = Disk::open(path)?;
        let (disk, log) = (Arc::new(disk), Arc::new(Log::new(revision)));
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = writer::Writer::new(Arc::clone(&disk), Arc::clone(&log), revision);
        let thread = std::thread::Builder::new().name("registry-store".to_owned());
        let writer = thread
            .spawn(move || writer.run(queue))
            .map_err(|error| file::io(path, "opened", &error))?;
        Ok(Self {
            disk,
            log,
            jobs: Some(jobs),
            writer: Some(writer),
        })
    }

    async fn write(
        &self,
        key: &str,
        expect: Expect,
        write: Write,
    ) -> Result<Option<u64>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            key: key.into(),
            expect,
            write,
            answer,
        };
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Reads off the runtime's threads, since the disk may make it wait.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let disk = Arc::clone(&self.disk);
        tokio::task::spawn_blocking(move || disk.with("read", work))
            .await
            .map_err(|_| StoreError::Closed)?
    }
}

impl Drop for RedbStore {
    /// Writes what is queued and closes the file, so that it can be opened again.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(path = ?self.disk.path(), "the registry's writer panicked");
        }
    }
}

#[async_trait]
impl Store for RedbStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key: Arc<str> = key.into();
        self.read(move |database| {
            let table = database.begin_read()?.open_table(file::ENTRIES)?;
            let Some(found) = table.get(&*key)? else {
                return Ok(None);
            };
            row::decode(&key, found.value()).map(Some)
        })
        .await
    }

    async fn put(
        &self,
        key: &str,
        value: Arc<[u8]>,
        expect: Expect,
        lease: Option<SystemTime>,
    ) -> Result<u64, StoreError> {
        let revision = self.write(key, expect, Write::Put { value, lease }).await?;
        revision.ok_or(StoreError::Closed)
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Option<u64>, StoreError> {
        self.write(key, expect, Write::Delete).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let prefix = prefix.to_owned();
        self.read(move |database| {
            let moment = database.begin_read()?;
            let mut entries = Vec::new();
            for found in moment.open_table(file::ENTRIES)?.range(prefix.as_str()..)? {
                let (key, value) = found?;
                if !key.value().starts_with(&prefix) {
                    break;
                }
                entries.push(row::decode(&Arc::from(key.value()), value.value())?);
            }
            let revision = file::read_revision(&moment.open_table(file::META)?)?;
            Ok(Listing { entries, revision })
        })
        .await
    }

    async fn past(&self, prefix: &str, _listed: u64) -> Result<Past, StoreError> {
        let prefix = prefix.to_owned();
        self.read(move |database| file::past(database, &prefix))
            .await
    }

    async fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError> {
        self.log.watch(prefix, after)
    }
}
