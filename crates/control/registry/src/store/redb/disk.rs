//! The open file: worked with behind a fence, and opened again after a failure.
//!
//! redb takes no more writes after one that failed, as on a full disk, until the file is opened
//! again; and a damaged page makes it panic here and there.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use redb::Database;

use super::file;
use crate::store::StoreError;

/// See the module.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    /// Nothing while it cannot be opened again.
    database: RwLock<Option<Database>>,
}

impl Disk {
    /// Opens the file; answers with the revision of its last write as well.
    pub(super) fn open(path: &Path) -> Result<(Self, u64), StoreError> {
        let (database, revision) = fenced(path, || file::open(path))?;
        let disk = Self {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
        };
        Ok((disk, revision))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads or writes; it waits for the disk.
    pub(super) fn with<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &*database else {
            let cause = "it could not be opened again after a failure";
            return Err(file::io(&self.path, doing, &cause));
        };
        fenced(&self.path, || {
            work(database).map_err(|error| file::io(&self.path, doing, &error))
        })
    }

    /// Closes the file and opens it again; answers with the revision of its last write.
    pub(super) fn reopen(&self) -> Result<u64, StoreError> {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        drop(database.take());
        let (opened, revision) = fenced(&self.path, || file::open(&self.path))?;
        *database = Some(opened);
        Ok(revision)
    }
}

/// A panic over the file's bytes is the file's fault, and ends this work alone.
fn fenced<T>(path: &Path, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(StoreError::Corrupt {
            path: path.to_owned(),
            cause: text.unwrap_or("a panic").to_owned(),
        })
    })
}
