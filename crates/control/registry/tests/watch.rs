//! Watchers: no gap, no duplicate, and nobody waits for a slow one.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod common;

use std::{collections::BTreeMap, time::Duration};

use common::{endpoint, open, open_with, query};
use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::{Code, Endpoints};
use nsm_registry::{Config, Registry, watch::Subscription};

const A: &str = "spiffe://nsm/a";
const WRITERS: usize = 8;
const WRITES: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_has_no_gap_under_concurrent_writes() {
    let (registry, clock) = open().await;
    let expires = clock.at(3600);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (registry, expires) = (registry.clone(), expires.clone());
            tokio::task::JoinSet::from_iter([async move {
                for write in 0..WRITES {
                    let record = endpoint(
                        &format!("{writer}-{}", write % 7),
                        A,
                        "vpn",
                        expires.clone(),
                    );
                    if write % 3 == 2 {
                        registry.unregister::<Endpoints>(&record).await.unwrap();
                    } else {
                        registry.register::<Endpoints>(record).await.unwrap();
                    }
                }
            }])
        })
        .collect();
    let mut watches = Vec::new();
    for _ in 0..20 {
        watches.push(registry.watch::<Endpoints>(query("vpn")).unwrap());
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    for writer in writers {
        writer.join_all().await;
    }
    registry
        .register::<Endpoints>(endpoint("last", A, "vpn", expires))
        .await
        .unwrap();
    let there: BTreeMap<String, NetworkServiceEndpoint> = registry
        .find::<Endpoints>(&query("vpn"))
        .iter()
        .map(|item| (item.name.clone(), (**item).clone()))
        .collect();
    for watch in &mut watches {
        assert_eq!(follow(watch, "last").await, there);
    }
}

/// What a watcher knows once it has seen this name; every event must make sense.
async fn follow(
    watch: &mut Subscription<Endpoints>,
    until: &str,
) -> BTreeMap<String, NetworkServiceEndpoint> {
    let mut known = BTreeMap::new();
    let mut revisions = BTreeMap::new();
    loop {
        let event = watch.next().await.unwrap();
        let name = event.item.name.clone();
        let before = revisions.insert(name.clone(), event.revision);
        assert!(
            before < Some(event.revision),
            "{event:?} after revision {before:?}"
        );
        if event.deleted {
            assert!(
                known.remove(&name).is_some(),
                "{event:?} of something unknown: a gap"
            );
        } else {
            known.insert(name.clone(), (*event.item).clone());
        }
        if name == until {
            return known;
        }
    }
}

#[tokio::test]
async fn a_slow_watcher_is_cut_off_and_hurts_nobody() {
    let (registry, clock) = open_with(Config {
        watch_queue: 10,
        ..Config::default()
    })
    .await;
    let mut slow = registry.watch::<Endpoints>(query("vpn")).unwrap();
    let mut healthy = registry.watch::<Endpoints>(query("vpn")).unwrap();
    for n in 0..100 {
        registry
            .register::<Endpoints>(endpoint(&n.to_string(), A, "vpn", clock.at(60)))
            .await
            .unwrap();
        assert_eq!(healthy.next().await.unwrap().item.name, n.to_string());
    }
    for n in 0..10 {
        assert_eq!(slow.next().await.unwrap().item.name, n.to_string());
    }
    let error = slow.next().await.unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted);
    assert!(error.message.contains("fell 10 changes behind"), "{error}");
    assert_eq!(registry.counts::<Endpoints>(), (100, 1));
    drop(healthy);
    assert_eq!(registry.counts::<Endpoints>(), (100, 0));
}

#[tokio::test]
async fn what_ceases_to_match_is_a_deletion() {
    let (registry, clock) = open().await;
    let of = |service| endpoint("nse-1", A, service, clock.at(60));
    registry.register::<Endpoints>(of("vpn")).await.unwrap();
    let mut vpn = registry.watch::<Endpoints>(query("vpn")).unwrap();
    let mut nat = registry.watch::<Endpoints>(query("nat")).unwrap();
    assert!(!vpn.next().await.unwrap().deleted);
    registry.register::<Endpoints>(of("nat")).await.unwrap();
    let gone = vpn.next().await.unwrap();
    assert!(gone.deleted && gone.item.network_service_names == ["vpn"]);
    assert!(!nat.next().await.unwrap().deleted);
    registry.unregister::<Endpoints>(&of("nat")).await.unwrap();
    assert!(nat.next().await.unwrap().deleted);
    registry.shutdown(Duration::from_secs(5)).await;
    drop(registry);
    assert_eq!(vpn.next().await.unwrap_err().code, Code::Unavailable);
}

/// One event with 5,000 watchers of other names must cost about what it costs with 10: the bound is
/// loose, a scan of all of them is two orders slower.
#[tokio::test]
async fn an_event_is_not_matched_against_everybody() {
    let mut costs = Vec::new();
    for watchers in [10, 5_000] {
        let (registry, clock) = open().await;
        let by_name = |n: usize| NetworkServiceEndpoint {
            name: n.to_string(),
            ..Default::default()
        };
        let watches: Vec<_> = (0..watchers)
            .map(|n| registry.watch::<Endpoints>(by_name(n)).unwrap())
            .collect();
        costs.push(fastest(&registry, &clock).await);
        assert_eq!(registry.counts::<Endpoints>().1, watches.len());
    }
    assert!(
        costs[1] < costs[0] * 10 + Duration::from_millis(1),
        "10 watchers: {:?}, 5000: {:?}",
        costs[0],
        costs[1]
    );
}

async fn fastest(registry: &Registry, clock: &common::Manual) -> Duration {
    let mut fastest = Duration::MAX;
    for n in 0..50 {
        let start = std::time::Instant::now();
        registry
            .register::<Endpoints>(endpoint(&n.to_string(), A, "vpn", clock.at(60)))
            .await
            .unwrap();
        fastest = fastest.min(start.elapsed());
    }
    fastest
}
