//! The journal through kills, bad disks and other versions.

use std::{fs, io::Write as _, os::unix::fs::FileExt as _, path::PathBuf};

use redb::{Database, TableDefinition};

use super::*;

const NAME: &str = "hop";

fn file(folder: &Path) -> PathBuf {
    folder.join(format!("{NAME}.journal"))
}

/// Writes these records and ends.
fn written(folder: &Path, records: &[(&str, &[u8])]) {
    let journalled = Journalled::open(Some(folder), NAME).unwrap();
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
        journalled.complete,
    )
}

#[test]
fn what_was_kept_is_found_and_what_was_struck_is_not() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), &[("a", b"1"), ("b", b"2"), ("a", b"3")]);
    {
        let mut journalled = Journalled::open(Some(folder.path()), NAME).unwrap();
        assert!(journalled.complete);
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

#[test]
fn without_a_folder_there_is_no_journal() {
    let journalled = Journalled::open(None, NAME).unwrap();
    assert!(journalled.journal(Table::Connections).is_none());
    assert!(!journalled.complete, "nothing is swept");
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
        let (known, complete) = read(folder.path());
        assert!(known.is_empty(), "{what}: {known:?}");
        assert!(!complete, "{what}: nothing may be swept");
        let aside = folder.path().join(format!("{NAME}.journal.damaged"));
        assert!(aside.exists(), "{what}: kept for whoever looks into it");
        // It works again at once.
        written(folder.path(), &[("c", b"3")]);
        let again = vec!["c".to_owned()];
        assert_eq!(read(folder.path()), (again.clone(), false), "{what}");
        fs::remove_file(aside).unwrap();
        assert_eq!(read(folder.path()), (again, true), "{what}: looked at");
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
    assert!(!journalled.complete);
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
    assert!(!journalled.complete);
    if let Some(journal) = journalled.journal(Table::Connections) {
        journal.keep("a", b"1".to_vec());
    }
}
