//! The file: how it is opened, and what is done about one that is no journal.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use redb::{
    Database, DatabaseError, Durability, ReadableTable as _, TableDefinition, backends::FileBackend,
};

use super::{Records, Table};

/// [`FORMAT`], the boot, and whether it is [`WHOLE`].
pub(super) const META: TableDefinition<'static, &str, &str> = TableDefinition::new("meta");
const FORMAT: &str = "format";
const BOOT: &str = "boot";
/// Whether everything that was agreed is in the file, but for what the last moment before a kill
/// brought. A file that was made where there may have been connections is not, until somebody has
/// looked; one of a version before has no such row, and is.
pub(super) const WHOLE: &str = "whole";
pub(super) const YES: &str = "yes";
const NO: &str = "no";
/// The only format so far: tables of ids with JSON. Tables and fields are added without another
/// one: a version that does not know them leaves them alone.
const KNOWN_FORMAT: u64 = 1;

/// redb's cache, bytes; its default is 1 GiB. Nothing is read but at the start.
const CACHE_BYTES: usize = 4 << 20;
/// A file below this length is left as it is, and one of which this share is in use: cutting writes
/// all of it anew.
const CUT_FROM: u64 = 144 << 10;
const CUT_SHARE: u64 = 4;
/// Records are about who is connected to whom: the role's user alone may read them.
const MODE: u32 = 0o600;
/// How long the process before, which may be ending, is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What was found.
pub(super) struct Found {
    /// None where the disk cannot be written.
    pub(super) database: Option<Database>,
    pub(super) records: Records,
    /// Whether nothing is missing.
    pub(super) whole: bool,
}

/// Why the file was not opened.
enum Refused {
    Newer(u64),
    InUse,
    Damaged(String),
    Io(String),
}

/// Opens the file, or makes it.
pub(super) fn find(path: &Path) -> anyhow::Result<Found> {
    match open(path) {
        Ok(found) => Ok(found),
        Err(Refused::Newer(found)) => bail!(
            "{}: has format {found}, this version knows {KNOWN_FORMAT}: run the version that wrote it, or move it away \
             (connections are asked for again then)",
            path.display()
        ),
        Err(Refused::InUse) => bail!(
            "{}: is in use: another process of this name runs on this node; stop it, or give this one a name and a \
             --state-dir of its own",
            path.display()
        ),
        Err(Refused::Damaged(cause)) => Ok(anew(path, &cause)),
        Err(Refused::Io(cause)) => {
            tracing::error!(
                path = ?path,
                cause,
                "the journal cannot be opened: going on without one, after a restart connections are asked for again; \
                 check its folder, permissions and free space"
            );
            Ok(nothing(None))
        }
    }
}

/// Opens the file that could not be written.
pub(super) fn again(path: &Path) -> anyhow::Result<Database> {
    match open(path) {
        Ok(found) => found.database.context("it has no database"),
        Err(Refused::Newer(found)) => bail!("it has format {found} by now"),
        Err(Refused::InUse) => bail!("another process has it by now"),
        Err(Refused::Damaged(cause) | Refused::Io(cause)) => bail!("{cause}"),
    }
}

fn nothing(database: Option<Database>) -> Found {
    Found {
        database,
        records: BTreeMap::new(),
        whole: false,
    }
}

/// Where a damaged file is put.
fn aside(path: &Path) -> PathBuf {
    path.with_extension("journal.damaged")
}

/// Moves a damaged file aside and begins another one.
fn anew(path: &Path, cause: &str) -> Found {
    let aside = aside(path);
    let moved = fs::rename(path, &aside);
    tracing::error!(
        path = ?path,
        cause,
        aside = ?aside,
        moved = moved.is_ok(),
        "the journal is damaged and was moved aside: packets flow, connections are asked for again, and links that it spoke \
         of are left alone until somebody knows them"
    );
    open(path).unwrap_or_else(|_| nothing(None))
}

fn open(path: &Path) -> Result<Found, Refused> {
    let until = Instant::now() + PATIENCE;
    loop {
        // A damaged file is met with a panic in places.
        let opened = catch_unwind(AssertUnwindSafe(|| try_open(path)));
        match opened {
            Ok(Err(Refused::InUse)) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
            Ok(done) => return done,
            Err(_) => return Err(Refused::Damaged("it cannot be read".to_owned())),
        }
    }
}

fn try_open(path: &Path) -> Result<Found, Refused> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(path)
        .map_err(|error| Refused::Io(error.to_string()))?;
    let backend = FileBackend::new(file).map_err(refused)?;
    let mut database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(backend)
        .map_err(refused)?;
    // Every page's checksum: a flipped bit must not become somebody's connection.
    match database.check_integrity() {
        Ok(_) => {}
        Err(error) => return Err(refused(error)),
    }
    let damaged = |error: redb::Error| {
        // A full or read-only disk says nothing of what is on it.
        if let redb::Error::Io(cause) = &error
            && !tells_of_damage(cause)
        {
            return Refused::Io(cause.to_string());
        }
        Refused::Damaged(error.to_string())
    };
    let prepared = prepare(&database).map_err(damaged)?;
    let Prepared { other_boot, whole } = prepared.map_err(Refused::Newer)?;
    let records = read(&database, other_boot).map_err(damaged)?;
    Ok(Found {
        database: Some(database),
        records,
        whole,
    })
}

/// Bytes that are wrong, or that end too soon.
fn tells_of_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof)
}

fn refused(error: impl Into<DatabaseError>) -> Refused {
    match error.into() {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Refused::InUse,
        DatabaseError::Storage(redb::StorageError::Io(error)) if !tells_of_damage(&error) => {
            Refused::Io(error.to_string())
        }
        error @ (DatabaseError::RepairAborted
        | DatabaseError::UpgradeRequired(_)
        | DatabaseError::TransactionInProgress
        | DatabaseError::Storage(_)
        | _) => Refused::Damaged(error.to_string()),
    }
}

struct Prepared {
    /// Nothing of what it spoke of is left.
    other_boot: bool,
    whole: bool,
}

/// Makes a journal of this boot of it; or else tells the newer format that it has.
fn prepare(database: &Database) -> Result<Result<Prepared, u64>, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let boot = this_boot();
    let prepared = {
        let mut meta = transaction.open_table(META)?;
        let format = meta.get(FORMAT)?.map(|format| format.value().to_owned());
        let fresh = format.is_none();
        let found = format.and_then(|format| format.parse().ok());
        if let Some(newer) = found.filter(|found| *found > KNOWN_FORMAT) {
            return Ok(Err(newer));
        }
        meta.insert(FORMAT, KNOWN_FORMAT.to_string().as_str())?;
        let before = meta.insert(BOOT, boot.as_str())?;
        let other_boot = before.is_some_and(|before| before.value() != boot);
        let said = meta.get(WHOLE)?.map(|whole| whole.value() == YES);
        // Of another boot nothing is left that could be missing.
        let whole = other_boot || said.unwrap_or(!fresh);
        meta.insert(WHOLE, if whole { YES } else { NO })?;
        Prepared { other_boot, whole }
    };
    for table in Table::ALL {
        if prepared.other_boot {
            transaction.delete_table(table.definition())?;
        }
        transaction.open_table(table.definition())?;
    }
    transaction.commit()?;
    Ok(Ok(prepared))
}

/// Cuts a long file of which little is in use.
pub(super) fn cut(path: &Path, database: &mut Database) -> anyhow::Result<()> {
    let length = fs::metadata(path)?.len();
    if length < CUT_FROM {
        return Ok(());
    }
    let used = database.begin_write()?.stats()?.stored_bytes();
    if length / CUT_SHARE >= used {
        database.compact()?;
    }
    Ok(())
}

fn read(database: &Database, other_boot: bool) -> Result<Records, redb::Error> {
    if other_boot {
        tracing::info!("the journal is of another boot of this machine: nothing of it is left");
    }
    let moment = redb::ReadableDatabase::begin_read(database)?;
    let mut all = BTreeMap::new();
    for table in Table::ALL {
        let mut records = Vec::new();
        for row in moment.open_table(table.definition())?.iter()? {
            let (id, record) = row?;
            records.push((id.value().to_owned(), record.value().to_vec()));
        }
        all.insert(table, records);
    }
    Ok(all)
}

/// Linux's own id of this boot; every boot is another one where there is none.
fn this_boot() -> String {
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.unwrap_or_default().trim().to_owned()
}
