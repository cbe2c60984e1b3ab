//! A disk without room: writes are refused with the reason, reads go on, and so do writes once
//! there is room.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod common;

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use common::{Manual, endpoint, query};
use nsm_chain::{Code, Endpoints};
use nsm_registry::{Config, Registry, store::redb::RedbStore};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

/// Tells the child where to write; absent in the parent.
const FILE: &str = "NSM_TEST_FULL_FILE";
const A: &str = "spiffe://nsm/a";
/// What the child says at its end.
const DONE: &str = "refused, read, and written again";

/// The child: no file of its may grow, from some moment to another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_has_no_room() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let clock = Manual::default();
    let store = RedbStore::open(Path::new(&file)).unwrap();
    let registry = Registry::open(Arc::new(store), Arc::new(clock.clone()), Config::default())
        .await
        .unwrap();
    let record = |n: u64| {
        let mut record = endpoint(&format!("nse-{n}"), A, "vpn", clock.at(600));
        record.url = format!("tcp://{}:1", "x".repeat(20_000));
        record
    };
    registry.register::<Endpoints>(record(0)).await.unwrap();
    let mut watch = registry.watch::<Endpoints>(query("vpn")).unwrap();

    let before = getrlimit(Resource::Fsize);
    let room = std::fs::metadata(&file).unwrap().len();
    let full = Rlimit {
        current: Some(room),
        ..before
    };
    setrlimit(Resource::Fsize, full).unwrap();
    let mut written = 0;
    let error = loop {
        match registry.register::<Endpoints>(record(written + 1)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 10_000, "the file grows without end");
    };
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert!(error.message.contains("cannot be written"), "{error}");
    assert!(error.message.contains("free space"), "{error}");
    let there = usize::try_from(written + 1).unwrap();
    assert_eq!(registry.find::<Endpoints>(&query("vpn")).len(), there);
    for _ in 0..there {
        watch.next().await.unwrap();
    }

    setrlimit(Resource::Fsize, before).unwrap();
    let start = Instant::now();
    while let Err(error) = registry.register::<Endpoints>(record(written + 1)).await {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "never again: {error}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let event = watch.next().await.unwrap();
    assert_eq!(event.item.name, format!("nse-{}", written + 1));
    assert_eq!(registry.find::<Endpoints>(&query("vpn")).len(), there + 1);
    registry.shutdown(Duration::from_secs(1)).await;
    drop(registry);
    eprintln!("{DONE}");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test is its own child, whose files cannot grow"
)]
fn a_full_disk_refuses_writes_and_serves_reads() {
    if std::env::var_os(FILE).is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The signal of a file beyond its limit would end the child: a full disk sends none.
    let run = "trap '' XFSZ; exec \"$0\" \"$@\"";
    let ran = Command::new("sh")
        .args(["-c", run])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_has_no_room", "--nocapture"])
        .env(FILE, folder.path().join("registry.redb"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains(DONE), "{said}");
}
