//! kill -9 loses no acknowledged write.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Stdio},
    sync::Arc,
    time::Duration,
};

use nsm_registry::store::{Expect, Store as _, redb::RedbStore};

/// Tells the child where to write; absent in the parent.
const FILE: &str = "NSM_TEST_REGISTRY_FILE";
/// Before each key that the child was answered for.
const ACKNOWLEDGED: &str = "acknowledged ";
const WRITERS: usize = 8;
const ROUNDS: u64 = 5;

/// The child: writes for ever, says each key after its write was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes_until_killed() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let store = Arc::new(RedbStore::open(Path::new(&file)).unwrap());
    let round = store.list("").await.unwrap().revision;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for write in 0_u64.. {
                let key = format!("{round}-{writer}-{write}");
                store
                    .put(&key, key.as_bytes().into(), Expect::Absent, None)
                    .await
                    .unwrap();
                writeln!(std::io::stdout().lock(), "{ACKNOWLEDGED}{key}").unwrap();
            }
        });
    }
    writers.join_next().await;
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_by_kill_9() {
    if std::env::var_os(FILE).is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registry.redb");
    let mut acknowledged = Vec::new();
    for round in 1..=ROUNDS {
        let mut child = start(&file);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains(ACKNOWLEDGED) {
            line.clear();
            assert!(
                lines.read_line(&mut line).unwrap() > 0,
                "the child ended by itself"
            );
        }
        acknowledged.extend(
            line.split_once(ACKNOWLEDGED)
                .map(|(_, key)| key.trim_end().to_owned()),
        );
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30 * round));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        // A line that was cut short by the kill has no end, and was not said.
        let mut rest = String::new();
        while lines.read_line(&mut rest).unwrap() > 0 {
            if let Some(key) = rest
                .strip_suffix('\n')
                .and_then(|line| line.strip_prefix(ACKNOWLEDGED))
            {
                acknowledged.push(key.to_owned());
            }
            rest.clear();
        }
        killer.join().unwrap();
        let store = RedbStore::open(&file).unwrap();
        for key in &acknowledged {
            let entry = store.get(key).await.unwrap();
            let value = entry.as_ref().map(|entry| &*entry.value);
            assert_eq!(value, Some(key.as_bytes()), "round {round}: lost");
        }
    }
    assert!(
        acknowledged.len() > 100,
        "only {} writes were tried",
        acknowledged.len()
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test is its own child, to be killed"
)]
fn start(file: &Path) -> Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_writes_until_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
