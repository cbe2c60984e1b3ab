//! The file: how it is opened, and what is wrong with it.

use std::{
    fs::{OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use redb::{
    Database, DatabaseError, Durability, ReadableTable, TableDefinition, backends::FileBackend,
};

use crate::store::StoreError;

/// Key to [`super::row`].
pub(super) const ENTRIES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries");
/// [`FORMAT`] and [`REVISION`].
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
/// The format of the rows.
const FORMAT: &str = "format";
/// The revision of the last write.
pub(super) const REVISION: &str = "revision";
/// The only format so far.
const KNOWN_FORMAT: u64 = 1;

/// redb's cache in bytes; its default is 1 GiB. Reads come from the index, so that only the
/// writer's own pages are wanted here: 10,000 endpoints have about 5 MB.
const CACHE_BYTES: usize = 16 << 20;

/// Only the registry's user may read who is registered.
const MODE: u32 = 0o600;

/// Opens or makes the file; answers with the revision of its last write as well.
pub(super) fn open(path: &Path) -> Result<(Database, u64), StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(path)
        .and_then(|file| {
            file.set_permissions(Permissions::from_mode(MODE))
                .map(|()| file)
        })
        .map_err(|error| io(path, "opened", &error))?;
    let backend = FileBackend::new(file).map_err(|error| refuse(path, error))?;
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(backend)
        .map_err(|error| refuse(path, error))?;
    let revision = prepare(path, &database)?;
    Ok((database, revision))
}

/// Makes the tables of a new file, and checks the format of an old one.
fn prepare(path: &Path, database: &Database) -> Result<u64, StoreError> {
    let (found, revision) = tables(database).map_err(|error| damaged(path, &error))?;
    if found > KNOWN_FORMAT {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known: KNOWN_FORMAT,
        });
    }
    Ok(revision)
}

fn tables(database: &Database) -> Result<(u64, u64), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let (found, revision) = {
        let mut meta = transaction.open_table(META)?;
        let found = meta.get(FORMAT)?.map(|format| format.value());
        if found.is_none() {
            meta.insert(FORMAT, KNOWN_FORMAT)?;
        }
        (found.unwrap_or(KNOWN_FORMAT), read_revision(&meta)?)
    };
    if found <= KNOWN_FORMAT {
        transaction.open_table(ENTRIES)?;
        transaction.commit()?;
    }
    Ok((found, revision))
}

pub(super) fn read_revision(
    meta: &impl ReadableTable<&'static str, u64>,
) -> Result<u64, redb::Error> {
    Ok(meta.get(REVISION)?.map_or(0, |revision| revision.value()))
}

pub(super) fn io(path: &Path, doing: &'static str, cause: &impl ToString) -> StoreError {
    StoreError::Io {
        path: path.to_owned(),
        doing,
        cause: cause.to_string(),
    }
}

fn damaged(path: &Path, cause: &impl ToString) -> StoreError {
    StoreError::Corrupt {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

fn refuse(path: &Path, error: impl Into<DatabaseError>) -> StoreError {
    match error.into() {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse {
                path: path.to_owned(),
            }
        }
        DatabaseError::Storage(redb::StorageError::Io(error))
            if error.kind() != std::io::ErrorKind::InvalidData =>
        {
            io(path, "opened", &error)
        }
        error @ (DatabaseError::RepairAborted
        | DatabaseError::UpgradeRequired(_)
        | DatabaseError::TransactionInProgress
        | DatabaseError::Storage(_)
        | _) => damaged(path, &error),
    }
}
