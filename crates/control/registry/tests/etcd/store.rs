//! The store itself: the kit, leases, compaction, etcd that is away.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use nsm_registry::{
    SystemClock,
    store::{Change, Expect, Store as _, StoreError, etcd::EtcdStore, kit::conform},
};

use crate::cluster::{Cluster, MEMBERS};

/// A value, as stores take it.
fn value(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_conforms() {
    crate::begin!(cluster, Cluster::start().await);
    conform(cluster.store("kit")).await.unwrap();
    // A prefix is a wall.
    let other = cluster.store("kit0");
    assert_eq!(other.list("").await.unwrap().entries, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_over_compaction_and_dead_members() {
    crate::begin!(cluster, Cluster::start().await);
    let store = cluster.store("watch");
    let first = store
        .put("a", value("1"), Expect::Absent, None)
        .await
        .unwrap();
    let mut watch = store.watch("", first).await.unwrap();
    let mut last = first;
    for write in 0..20 {
        last = store
            .put("a", value(&write.to_string()), Expect::Revision(last), None)
            .await
            .unwrap();
    }
    // The watch is ahead of the compaction: nothing is lost.
    for expected in first + 1..=last {
        assert_eq!(watch.next().await.unwrap().revision(), expected);
    }
    cluster.tool(0, &["compact", &last.to_string()]).unwrap();
    for dead in 0..MEMBERS {
        cluster.kill(dead);
        let next = store
            .put("a", value("x"), Expect::Revision(last), None)
            .await
            .unwrap();
        assert_eq!(
            watch.next().await.unwrap().revision(),
            next,
            "with member {dead} dead"
        );
        last = next;
        cluster.up(dead);
        cluster.leader();
        store.reach().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // A watch from before the compaction says so, and a listing works.
    let mut late = store.watch("", first).await.unwrap();
    let error = late.next().await.unwrap_err();
    assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
    assert_eq!(store.list("").await.unwrap().entries.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_shared_survive_a_failover_and_end() {
    crate::begin!(cluster, Cluster::start().await);
    let mut settings = cluster.settings("leases");
    settings.backstop = Duration::from_secs(3);
    let store = EtcdStore::open(&settings, Arc::new(SystemClock)).unwrap();
    let end = SystemTime::now() + Duration::from_secs(5);
    for key in 0..20 {
        store
            .put(&key.to_string(), value("v"), Expect::Absent, Some(end))
            .await
            .unwrap();
    }
    let leases = cluster.tool(0, &["lease", "list"]).unwrap();
    let leases = leases
        .lines()
        .filter(|line| !line.contains("found"))
        .count();
    assert!(
        (1..=2).contains(&leases),
        "{leases} leases for 20 keys of one end"
    );
    // What is renewed stays longer than what is not.
    let renewed = store.get("7").await.unwrap().unwrap().revision;
    let later = Some(end + Duration::from_secs(3600));
    store
        .put("7", value("v"), Expect::Revision(renewed), later)
        .await
        .unwrap();
    let leader = cluster.leader();
    cluster.kill(leader);
    let start = Instant::now();
    assert_eq!(
        store.list("").await.unwrap().entries.len(),
        20,
        "none ends by the failover"
    );
    while store.list("").await.unwrap().entries.len() > 1 {
        assert!(start.elapsed() < Duration::from_secs(30), "ended keys stay");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(
        start.elapsed() > Duration::from_secs(4),
        "keys ended early: {:?}",
        start.elapsed()
    );
    assert_eq!(&*store.list("").await.unwrap().entries[0].key, "7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_that_is_away_is_waited_for() {
    crate::begin!(cluster, Cluster::prepare());
    let store = cluster.store("away");
    let start = Instant::now();
    let error = store.reach().await.unwrap_err();
    assert!(matches!(error, StoreError::Away { .. }), "{error:?}");
    assert!(
        error.to_string().contains("are most of its members up"),
        "{error}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    let mut watch = store.watch("", 0).await.unwrap();
    cluster.up(0);
    cluster.up(1);
    store.reach().await.unwrap();
    let revision = store
        .put("k", value("v"), Expect::Absent, None)
        .await
        .unwrap();
    let Change::Put(entry) = watch.next().await.unwrap() else {
        panic!("not a put");
    };
    assert_eq!((&*entry.key, entry.revision), ("k", revision));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_at_once_from_two_stores_are_decided_once() {
    crate::begin!(cluster, Cluster::start().await);
    let stores = [cluster.store("two"), cluster.store("two")];
    for round in 0..20 {
        let key = format!("k{round}");
        let puts = stores
            .iter()
            .map(|store| store.put(&key, value("v"), Expect::Absent, None));
        let done = futures_util::future::join_all(puts).await;
        let won: Vec<u64> = done
            .iter()
            .filter_map(|one| one.as_ref().ok().copied())
            .collect();
        assert_eq!(won.len(), 1, "{done:?}");
        let ends = stores
            .iter()
            .map(|store| store.delete(&key, Expect::Revision(won[0])));
        let done = futures_util::future::join_all(ends).await;
        let ended = done.iter().filter(|one| matches!(one, Ok(Some(_)))).count();
        assert_eq!(ended, 1, "an end is done once: {done:?}");
    }
}
