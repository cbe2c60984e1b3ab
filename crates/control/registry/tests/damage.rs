//! A store's file that is damaged: a clear message, or what can still be read; never a panic.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use nsm_registry::store::{Expect, Store as _, StoreError, redb::RedbStore};

/// Every so many bytes one is damaged: all of the header, and a part of each page.
const STEP: usize = 4_093;

#[tokio::test]
async fn a_damaged_file_is_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.redb");
    let store = RedbStore::open(&path).unwrap();
    for n in 0..50 {
        let value = vec![n; 500].into();
        store
            .put(&format!("nse/{n}"), value, Expect::Any, None)
            .await
            .unwrap();
    }
    let before = store.list("").await.unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let (mut refused, mut read) = (0, 0);
    let offsets = (0..320).chain((320..whole.len()).step_by(STEP));
    for offset in offsets {
        let mut bytes = whole.clone();
        bytes[offset] ^= 0x40;
        std::fs::write(&path, &bytes).unwrap();
        let opened = RedbStore::open(&path);
        let listed = match &opened {
            Ok(store) => store.list("").await,
            Err(error) => Err(error.clone()),
        };
        match listed {
            Ok(listing) => {
                assert_eq!(listing, before, "bit flipped at {offset}: other entries");
                read += 1;
            }
            Err(StoreError::Corrupt { .. } | StoreError::Io { .. } | StoreError::Newer { .. }) => {
                refused += 1;
            }
            Err(error) => panic!("bit flipped at {offset}: {error}"),
        }
    }
    assert!(refused > 10 && read > 10, "{refused} refused, {read} read");
    for length in (0..whole.len()).step_by(whole.len() / 40) {
        std::fs::write(&path, &whole[..length]).unwrap();
        match RedbStore::open(&path) {
            // An empty file is a new one.
            Ok(_) if length == 0 => {}
            Ok(_) => panic!("cut to {length} of {} bytes: opened", whole.len()),
            Err(error) => assert!(error.to_string().contains("damaged"), "{length}: {error}"),
        }
    }
}
