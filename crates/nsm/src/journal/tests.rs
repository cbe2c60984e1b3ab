//! The journal through kills, bad disks and other versions.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use redb::{Database, TableDefinition};

use super::*;

const NAME: &str = "hop";

fn file(folder: &Path) -> PathBuf {
    folder.join(format!("{NAME}.journal"))
}

/// Writes these records and ends.
fn written(folder: &Path, records: &[(&str, &[u8])]) {
    let journalled = Journalled::open(Some(folder), NAME).unwrap();
    journalled.wholeness().make();
    let journal = journalled.journal(Table::Connections).unwrap();
    for (id, record) in records {
        journal.keep(id, record.to_vec());
    }
}

fn read(folder: &Path) -> (Vec<String>, bool) {
    let mut journalled = Journalled::open(Some(folder), NAME).unwrap();
    let records = journalled.take(Table::Connections);
    (
        records.into_iter().map(|(id, _)| id).collect(),
        journalled.whole,
    )
}

#[test]
fn what_was_kept_is_found_and_what_was_struck_is_not() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), &[("a", b"1"), ("b", b"2"), ("a", b"3")]);
    {
        let mut journalled = Journalled::open(Some(folder.path()), NAME).unwrap();
        assert!(journalled.whole);
        assert_eq!(
            journalled.take(Table::Connections),
            [
                ("a".to_owned(), b"3".to_vec()),
                ("b".to_owned(), b"2".to_vec())
            ]
        );
        assert!(journalled.take(Table::Endpoints).is_empty());
        let journal = journalled.journal(Table::Connections).unwrap();
        journal.forget("b");
        journal.forget("never there");
    }
    assert_eq!(read(folder.path()), (vec!["a".to_owned()], true));
}

/// Who waits for a strike waits until another process would not find the record.
#[tokio::test]
async fn a_strike_that_is_settled_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), &[("a", b"1"), ("b", b"2")]);
    let journalled = Journalled::open(Some(folder.path()), NAME).unwrap();
    let journal = journalled.journal(Table::Connections).unwrap();
    journal.forget("a");
    journal.written().settled().await;
    journal.written().settled().await;
    let copied = tempfile::tempdir().unwrap();
    fs::copy(file(folder.path()), file(copied.path())).unwrap();
    assert_eq!(read(copied.path()).0, ["b"]);
}

#[test]
fn a_file_that_begins_is_whole_when_somebody_has_looked() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        assert_eq!(read(folder.path()), (Vec::new(), false));
    }
    {
        let journalled = Journalled::open(Some(folder.path()), NAME).unwrap();
        assert!(journalled.wholeness().is_possible());
        journalled.wholeness().make();
    }
    assert_eq!(read(folder.path()), (Vec::new(), true));
}

/// A disk that refuses for a while.
#[derive(Debug)]
struct Refuses(
    redb::backends::InMemoryBackend,
    Arc<std::sync::atomic::AtomicBool>,
);

impl Refuses {
    fn full(&self) -> std::io::Result<()> {
        let refuses = self.1.load(std::sync::atomic::Ordering::Relaxed);
        let error = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        (!refuses).then_some(()).ok_or_else(error)
    }
}

impl redb::StorageBackend for Refuses {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.full()?;
        self.0.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.full()?;
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.full()?;
        self.0.write(offset, data)
    }
}

/// What could not be written is told, and written when the disk takes it again.
#[tokio::test]
async fn a_disk_that_was_full_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), &[("before", b"1")]);
    let refuses = Arc::<std::sync::atomic::AtomicBool>::default();
    let backend = Refuses(redb::backends::InMemoryBackend::new(), Arc::clone(&refuses));
    let database = Database::builder().create_with_backend(backend).unwrap();
    // The file itself cannot be opened either, for now.
    let (path, away) = (file(folder.path()), folder.path().join("away"));
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    let writer = Arc::new(Writer::start(path.clone(), database).unwrap());
    let mut told = writer.written();
    assert!(*told.borrow_and_update());
    refuses.store(true, std::sync::atomic::Ordering::Relaxed);
    let journal = writer::Kind {
        writer: Arc::clone(&writer),
        table: Table::Connections,
    };
    journal.keep("after", b"2".to_vec());
    told.changed().await.unwrap();
    assert!(!*told.borrow_and_update());
    fs::remove_dir(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    told.changed().await.unwrap();
    assert!(*told.borrow_and_update());
    drop((journal, writer));
    let both = ["after", "before"].map(str::to_owned).to_vec();
    assert_eq!(read(folder.path()), (both, true));
}

/// Sixty clients that come and go ten thousand times between them: pages are used again.
#[test]
fn the_file_does_not_grow_with_what_came_and_went() {
    let folder = tempfile::tempdir().unwrap();
    let size = || fs::metadata(file(folder.path())).unwrap().len();
    let churn = |rounds: usize| {
        let journalled = Journalled::open(Some(folder.path()), NAME).unwrap();
        let journal = journalled.journal(Table::Connections).unwrap();
        for round in 0..rounds {
            let id = format!("client-{}", round % 60);
            journal.keep(&id, vec![b'x'; 4_000 + round % 500]);
            // Some commits hold one of them, some many.
            if round % 7 == 0 {
                std::thread::sleep(Duration::from_micros(500));
            }
            journal.forget(&id);
            if round % 3 == 0 {
                journal.keep(&id, vec![b'y'; 4_000]);
            }
        }
    };
    churn(60);
    let first = size();
    churn(10_000);
    let last = size();
    println!("journal: {first} bytes after 60, {last} after 10,000");
    assert!(last <= BOUND, "{first} {last}");
}

#[test]
fn a_file_is_cut_when_a_crowd_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let size = || fs::metadata(file(folder.path())).unwrap().len();
    let crowd: Vec<String> = (0..2_000).map(|n| format!("client-{n}")).collect();
    let wait_for = |what: &str, holds: &dyn Fn() -> bool| {
        let until = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < until, "{what}: {} bytes", size());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    {
        let journalled = Journalled::open(Some(folder.path()), NAME).unwrap();
        let journal = journalled.journal(Table::Connections).unwrap();
        for id in &crowd {
            journal.keep(id, vec![b'x'; 4_000]);
        }
        wait_for("written", &|| size() > 8_000_000);
        crowd.iter().skip(3).for_each(|id| journal.forget(id));
        wait_for("cut", &|| size() <= AFTER);
        journal.keep("later", vec![b'y'; 4_000]);
    }
    assert_eq!(read(folder.path()).0.len(), 4);
    assert_eq!(read(folder.path()).0.len(), 4, "and again");
}

/// How long a file may take to be written and cut: some seconds of quiet are waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A few records, and what redb holds of pages for them.
const AFTER: u64 = 64 << 10;

/// Sixty records of 4 KiB, and what redb holds of pages for them.
const BOUND: u64 = 1 << 20;

#[test]
fn without_a_folder_there_is_no_journal() {
    let journalled = Journalled::open(None, NAME).unwrap();
    assert!(journalled.journal(Table::Connections).is_none());
    assert!(!journalled.whole, "nothing is swept");
}

/// What happened to the file, and whether records are still known then.
#[test]
fn a_damaged_journal_is_moved_aside() {
    let big = vec![7; 20_000];
    type Damage = fn(&Path);
    let rows: [(&str, Damage); 4] = [
        ("truncated", |path| {
            let length = fs::metadata(path).unwrap().len();
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(length / 3).unwrap();
        }),
        ("flipped", |path| {
            let file = fs::OpenOptions::new().read(true).write(true).open(path);
            let file = file.unwrap();
            let mut all = fs::read(path).unwrap();
            // Everywhere that something is: one bit a page.
            for at in (4096..all.len()).step_by(512) {
                all[at] ^= 0x10;
            }
            file.write_all_at(&all, 0).unwrap();
        }),
        ("another file", |path| {
            fs::write(path, b"this is no journal of anybody").unwrap();
        }),
        ("a header alone", |path| {
            let all = fs::read(path).unwrap();
            fs::write(path, &all[..512]).unwrap();
        }),
    ];
    for (what, damage) in rows {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), &[("a", b"1"), ("b", &big)]);
        damage(&file(folder.path()));
        // Also by the process after the next one.
        for _ in 0..2 {
            let (known, whole) = read(folder.path());
            assert!(known.is_empty(), "{what}: {known:?}");
            assert!(!whole, "{what}: nothing may be swept");
        }
        let aside = folder.path().join(format!("{NAME}.journal.damaged"));
        assert!(aside.exists(), "{what}: kept for whoever looks into it");
        // It works again at once.
        written(folder.path(), &[("c", b"3")]);
        assert_eq!(read(folder.path()), (vec!["c".to_owned()], true), "{what}");
    }
}

/// Wherever it ends too soon: it is not taken for a disk that refuses.
#[test]
fn a_cut_journal_begins_anew() {
    for length in [
        1, 64, 320, 1_000, 4_096, 5_000, 9_000, 12_288, 20_000, 50_000, 100_000,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let many: Vec<String> = (0..60).map(|n| format!("client-{n}")).collect();
        let rows: Vec<(&str, &[u8])> = many
            .iter()
            .map(|id| (id.as_str(), &[7; 3_000][..]))
            .collect();
        written(folder.path(), &rows);
        let all = fs::read(file(folder.path())).unwrap();
        fs::write(file(folder.path()), &all[..length]).unwrap();
        let journalled = Journalled::open(Some(folder.path()), NAME).unwrap();
        assert!(
            journalled.journal(Table::Connections).is_some(),
            "{length} bytes"
        );
    }
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    const META: TableDefinition<'static, &str, &str> = TableDefinition::new("meta");
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), &[("a", b"1")]);
    let path = file(folder.path());
    {
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("format", "2").unwrap();
        drop(meta);
        transaction.commit().unwrap();
    }
    let error = Journalled::open(Some(folder.path()), NAME).err().unwrap();
    let said = format!("{error:#}");
    assert!(
        said.contains("has format 2, this version knows 1"),
        "{said}"
    );
    assert!(path.exists());
}

/// A version before knew fewer tables, one after knows more.
#[test]
fn other_versions_tables_are_neither_missed_nor_touched() {
    const LATER: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("later");
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), &[("a", b"1")]);
    {
        let database = Database::create(file(folder.path())).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.delete_table(Table::Owed.definition()).unwrap();
        let mut later = transaction.open_table(LATER).unwrap();
        later.insert("x", b"y".as_slice()).unwrap();
        drop(later);
        transaction.commit().unwrap();
    }
    {
        let mut journalled = Journalled::open(Some(folder.path()), NAME).unwrap();
        assert!(journalled.take(Table::Owed).is_empty());
        let owed = journalled.journal(Table::Owed).unwrap();
        owed.keep("b hop", b"2".to_vec());
    }
    let mut journalled = Journalled::open(Some(folder.path()), NAME).unwrap();
    let owed = journalled.take(Table::Owed);
    assert_eq!(owed, [("b hop".to_owned(), b"2".to_vec())]);
    assert_eq!(journalled.take(Table::Connections).len(), 1);
    drop(journalled);
    let database = Database::create(file(folder.path())).unwrap();
    let moment = redb::ReadableDatabase::begin_read(&database).unwrap();
    let later = moment.open_table(LATER).unwrap();
    let found = redb::ReadableTable::get(&later, "x").unwrap().unwrap();
    assert_eq!(found.value(), b"y");
}

#[test]
fn of_another_boot_nothing_is_left() {
    const META: TableDefinition<'static, &str, &str> = TableDefinition::new("meta");
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), &[("a", b"1")]);
    {
        let database = Database::create(file(folder.path())).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("boot", "another").unwrap();
        drop(meta);
        transaction.commit().unwrap();
    }
    assert_eq!(read(folder.path()), (Vec::new(), true));
}

#[test]
fn a_second_process_of_the_same_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Journalled::open(Some(folder.path()), NAME).unwrap();
    let error = Journalled::open(Some(folder.path()), NAME).err().unwrap();
    let said = format!("{error:#}");
    assert!(said.contains("another process of this name"), "{said}");
}

#[test]
fn a_folder_that_cannot_be_written_is_done_without() {
    // A folder where the file should be: root may write everywhere else.
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(file(folder.path())).unwrap();
    let journalled = Journalled::open(Some(folder.path()), NAME).unwrap();
    assert!(journalled.journal(Table::Connections).is_none());
    assert!(!journalled.whole);
}

#[test]
fn a_full_disk_stops_nothing() {
    // Every write fails there.
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let Ok(mut full) = full else { return };
    assert!(full.write_all(b"x").is_err());
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", file(folder.path())).unwrap();
    let journalled = Journalled::open(Some(folder.path()), NAME).unwrap();
    assert!(!journalled.whole);
    if let Some(journal) = journalled.journal(Table::Connections) {
        journal.keep("a", b"1".to_vec());
    }
}
