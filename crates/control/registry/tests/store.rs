//! What the stores promise: the conformance kit, the file's protection, kill -9.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use nsm_registry::store::{
    Expect, Store as _, StoreError, kit::conform, memory::MemoryStore, redb::RedbStore,
};

#[tokio::test]
async fn every_store_conforms() {
    conform(Arc::new(MemoryStore::default())).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    conform(Arc::new(
        RedbStore::open(&folder.path().join("registry.redb")).unwrap(),
    ))
    .await
    .unwrap();
}

#[tokio::test]
async fn a_file_is_private_and_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.redb");
    std::fs::write(&path, b"").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let revision = store
        .put("k", Arc::from(*b"v"), Expect::Absent, None)
        .await
        .unwrap();
    assert_eq!(
        RedbStore::open(&path).unwrap_err(),
        StoreError::InUse { path: path.clone() }
    );
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.get("k").await.unwrap().unwrap().revision, revision);
    assert_eq!(
        store.delete("k", Expect::Any).await.unwrap(),
        Some(revision + 1)
    );
    assert!(matches!(
        store.watch("", 0).await,
        Err(StoreError::Compacted { after: 0, .. })
    ));
}

#[test]
fn files_that_cannot_be_used_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(
        &text,
        "this is no database, but it is long enough to be looked at".repeat(100),
    )
    .unwrap();
    let cut = folder.path().join("cut");
    drop(RedbStore::open(&cut).unwrap());
    let whole = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let newer = folder.path().join("newer");
    drop(RedbStore::open(&newer).unwrap());
    write_format(&newer, 7);
    let missing = folder.path().join("missing/registry.redb");
    // Nobody can write there, whoever he is.
    let read_only = std::path::PathBuf::from("/sys/kernel/nsm-registry.redb");
    for (path, says) in [
        (text, "not a store or is damaged"),
        (cut, "not a store or is damaged"),
        (newer, "has format 7, this version knows 1"),
        (missing, "cannot be opened: No such file"),
        (read_only, "check its folder, permissions and free space"),
    ] {
        let error = RedbStore::open(&path).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}

fn write_format(path: &std::path::Path, format: u64) {
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    transaction
        .open_table(meta)
        .unwrap()
        .insert("format", format)
        .unwrap();
    transaction.commit().unwrap();
}
