//! The file: how it is opened, and what is wrong with it.

use std::{
    fs::{OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase as _, ReadableTable, TableDefinition,
    backends::FileBackend,
};

use crate::store::{Age, Past, StoreError, age};

/// Key to [`super::row`].
pub(super) const ENTRIES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries");
/// [`FORMAT`] and [`REVISION`].
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
/// The deletion's revision to the key.
pub(super) const DELETED: TableDefinition<'static, u64, &str> = TableDefinition::new("deleted");
/// Which opening of the file to the age's name and the revision before it.
pub(super) const AGES: TableDefinition<'static, u64, (u64, u64)> = TableDefinition::new("ages");
/// Every deletion after this revision is in [`DELETED`].
pub(super) const SINCE: &str = "deletions_since";
/// The revision up to which deletions were written down. A version that does not know of them
/// leaves it behind.
pub(super) const TOLD: &str = "deletions_until";
/// How many ages are remembered: whoever saw one before them gets everything.
const MAX_AGES: u64 = 64;
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
    let mut database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(backend)
        .map_err(|error| refuse(path, error))?;
    // A flipped bit within a value is noticed by its checksum alone.
    let whole = database
        .check_integrity()
        .map_err(|error| refuse(path, error))?;
    if !whole {
        tracing::error!(
            ?path,
            "the store was damaged: it is at the last commit that could be read"
        );
    }
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
        begin_age(&transaction, revision)?;
        transaction.commit()?;
    }
    Ok((found, revision))
}

/// Names this opening, and forgets deletions that may be not all.
fn begin_age(transaction: &redb::WriteTransaction, revision: u64) -> Result<(), redb::Error> {
    let mut meta = transaction.open_table(META)?;
    let told = meta.get(TOLD)?.map(|told| told.value());
    if told != Some(revision) {
        transaction.delete_table(DELETED)?;
        transaction.delete_table(AGES)?;
        meta.insert(SINCE, revision)?;
        meta.insert(TOLD, revision)?;
    }
    transaction.open_table(DELETED)?;
    let mut ages = transaction.open_table(AGES)?;
    let number = ages.last()?.map_or(0, |(number, _)| number.value() + 1);
    if let Some(name) = age() {
        ages.insert(number, (name, revision))?;
    }
    ages.retain(|kept, _| kept + MAX_AGES > number)?;
    Ok(())
}

/// What is known of the time before.
pub(super) fn past(database: &Database, prefix: &str) -> Result<Past, redb::Error> {
    let moment = database.begin_read()?;
    let mut past = Past::default();
    for age in moment.open_table(AGES)?.iter()? {
        let (name, from) = age?.1.value();
        past.ages.push(Age { name, from });
    }
    let meta = moment.open_table(META)?;
    past.since = meta.get(SINCE)?.map_or(0, |since| since.value());
    for deleted in moment.open_table(DELETED)?.iter()? {
        let (revision, key) = deleted?;
        if key.value().starts_with(prefix) {
            past.deleted.push((key.value().into(), revision.value()));
        }
    }
    Ok(past)
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
            if !matches!(
                error.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
            ) =>
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
