//! The file: how it is opened, and what is done about one that is no journal.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::bail;
use redb::{
    Database, DatabaseError, Durability, ReadableTable as _, TableDefinition, backends::FileBackend,
};

use super::{Records, Table};

/// [`FORMAT`] and the boot.
const META: TableDefinition<'static, &str, &str> = TableDefinition::new("meta");
const FORMAT: &str = "format";
const BOOT: &str = "boot";
/// The only format so far: a record is the JSON of `nsm_chain::Record`.
const KNOWN_FORMAT: u64 = 1;

/// redb's cache, bytes; its default is 1 GiB. Nothing is read but at the start.
const CACHE_BYTES: usize = 4 << 20;
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
    pub(super) complete: bool,
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
    let new = !path.exists();
    match open(path) {
        Ok((database, records)) => Ok(Found {
            database: Some(database),
            records,
            // A role that had no journal yet may have had connections; what a damaged one told is
            // missing until somebody has looked at it and taken it away.
            complete: !new && !aside(path).exists(),
        }),
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

fn nothing(database: Option<Database>) -> Found {
    Found {
        database,
        records: BTreeMap::new(),
        complete: false,
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
        "the journal is damaged and was moved aside: packets flow, connections are asked for again, and links that nobody \
         owns are left alone for as long as that file is there"
    );
    nothing(open(path).ok().map(|(database, _)| database))
}

type Opened = (Database, Records);

fn open(path: &Path) -> Result<Opened, Refused> {
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

fn try_open(path: &Path) -> Result<Opened, Refused> {
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
            && cause.kind() != std::io::ErrorKind::InvalidData
        {
            return Refused::Io(cause.to_string());
        }
        Refused::Damaged(error.to_string())
    };
    let boot = prepare(&database).map_err(damaged)?;
    let boot = boot.map_err(Refused::Newer)?;
    let records = read(&database, boot).map_err(damaged)?;
    Ok((database, records))
}

fn refused(error: impl Into<DatabaseError>) -> Refused {
    match error.into() {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Refused::InUse,
        DatabaseError::Storage(redb::StorageError::Io(error))
            if error.kind() != std::io::ErrorKind::InvalidData =>
        {
            Refused::Io(error.to_string())
        }
        error @ (DatabaseError::RepairAborted
        | DatabaseError::UpgradeRequired(_)
        | DatabaseError::TransactionInProgress
        | DatabaseError::Storage(_)
        | _) => Refused::Damaged(error.to_string()),
    }
}

/// Whether it is of another boot, or else the newer format that it has.
fn prepare(database: &Database) -> Result<Result<bool, u64>, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let boot = this_boot();
    let other = {
        let mut meta = transaction.open_table(META)?;
        let format = meta.get(FORMAT)?.map(|format| format.value().to_owned());
        let found = format.and_then(|format| format.parse().ok());
        if let Some(newer) = found.filter(|found| *found > KNOWN_FORMAT) {
            return Ok(Err(newer));
        }
        meta.insert(FORMAT, KNOWN_FORMAT.to_string().as_str())?;
        let before = meta.insert(BOOT, boot.as_str())?;
        before.is_some_and(|before| before.value() != boot)
    };
    for table in Table::ALL {
        if other {
            transaction.delete_table(table.definition())?;
        }
        transaction.open_table(table.definition())?;
    }
    transaction.commit()?;
    Ok(Ok(other))
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
