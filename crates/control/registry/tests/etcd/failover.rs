//! Registries over one cluster: a leader, a member, a registry is killed.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use buffa::MessageField;
use buffa_types::google::protobuf::Timestamp;
use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::Endpoints;
use nsm_registry::{Config, Registry, SystemClock, store::Store as _};
use tokio::task::JoinSet;

use crate::cluster::Cluster;

/// Registrations a second.
const RATE: u64 = 200;
/// How long each phase lasts: before the kill, and after it.
const PHASE: Duration = Duration::from_secs(4);
/// How many different endpoints: the rest are renewals.
const ENDPOINTS: u64 = 500;

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) acknowledged: u64,
    pub(crate) failed: u64,
    /// From the kill to the first answer to a write that was sent after it.
    pub(crate) back: Duration,
    pub(crate) slowest: Duration,
    /// The 99th part of 100 of the reads, before and after.
    pub(crate) reads: [Duration; 2],
    pub(crate) lost: usize,
}

pub(crate) fn endpoint(name: u64, write: u64) -> NetworkServiceEndpoint {
    NetworkServiceEndpoint {
        name: format!("nse-{name}"),
        network_service_names: vec!["vpn".to_owned()],
        url: format!("tcp://10.0.0.1:{write}"),
        expiration_time: MessageField::some(Timestamp::from(
            SystemTime::now() + Duration::from_secs(600),
        )),
        path_ids: vec!["spiffe://nsm/nse".to_owned()],
        ..Default::default()
    }
}

async fn registry(cluster: &Cluster, prefix: &str) -> Registry {
    Registry::open(
        cluster.store(prefix),
        Arc::new(SystemClock),
        Config::default(),
    )
    .await
    .unwrap()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times
        .get(times.len() * 99 / 100)
        .copied()
        .unwrap_or_default()
}

/// One write, with the one retry that a client makes.
async fn write(registry: Registry, n: u64) -> (u64, u64, Result<Instant, String>, Instant) {
    let sent = Instant::now();
    let name = n % ENDPOINTS;
    let mut done = registry.register::<Endpoints>(endpoint(name, n)).await;
    if done.is_err() {
        done = registry.register::<Endpoints>(endpoint(name, n)).await;
    }
    (
        name,
        n,
        done.map(|_| Instant::now())
            .map_err(|error| error.to_string()),
        sent,
    )
}

/// Kills the leader under load, with two registries.
pub(crate) async fn leader_is_killed(cluster: &mut Cluster) -> Figures {
    let registries = [
        registry(cluster, "load").await,
        registry(cluster, "load").await,
    ];
    let mut figures = Figures::default();
    let mut writes = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
    let start = Instant::now();
    let (mut killed, mut reads) = (None, [Vec::new(), Vec::new()]);
    let mut n = 0;
    while start.elapsed() < PHASE * 2 {
        ticks.tick().await;
        let at = registries[usize::try_from(n % 2).unwrap()].clone();
        let query = endpoint(n % ENDPOINTS, 0);
        let query = NetworkServiceEndpoint {
            name: query.name,
            ..Default::default()
        };
        let asked = Instant::now();
        std::hint::black_box(at.find::<Endpoints>(&query));
        reads[usize::from(killed.is_some())].push(asked.elapsed());
        writes.spawn(write(at, n));
        n += 1;
        if killed.is_none() && start.elapsed() > PHASE {
            let leader = cluster.leader();
            cluster.kill(leader);
            killed = Some(Instant::now());
        }
    }
    let killed = killed.unwrap();
    let mut last = BTreeMap::new();
    let mut back = None;
    for (name, n, done, sent) in writes.join_all().await {
        match done {
            Ok(at) => {
                figures.acknowledged += 1;
                figures.slowest = figures.slowest.max(at - sent);
                let newest: &mut u64 = last.entry(name).or_default();
                *newest = n.max(*newest);
                if sent > killed {
                    back = back.into_iter().chain([at - killed]).min();
                }
            }
            Err(error) => {
                println!("failed: {error}");
                figures.failed += 1;
            }
        }
    }
    figures.back = back.unwrap_or(Duration::MAX);
    figures.reads = reads.map(p99);
    let listed = cluster.store("load").list("nse/").await.unwrap();
    let there: Vec<&str> = listed.entries.iter().map(|entry| &*entry.key).collect();
    figures.lost = last
        .keys()
        .filter(|name| !there.contains(&&*format!("nse/nse-{name}")))
        .count();
    for registry in registries {
        registry.shutdown(Duration::from_secs(1)).await;
    }
    figures
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_with_the_leader() {
    crate::begin!(cluster, Cluster::start().await);
    let figures = leader_is_killed(&mut cluster).await;
    println!("{figures:#?}");
    assert_eq!((figures.lost, figures.failed), (0, 0), "{figures:?}");
    assert!(figures.back < Duration::from_secs(5), "{figures:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_dies_leaves_everything_to_the_other() {
    crate::begin!(cluster, Cluster::start().await);
    let [first, second] = [
        registry(&cluster, "pair").await,
        registry(&cluster, "pair").await,
    ];
    first.register::<Endpoints>(endpoint(1, 1)).await.unwrap();
    let all = NetworkServiceEndpoint::default();
    let mut watch = second.watch::<Endpoints>(all.clone()).unwrap();
    assert_eq!(watch.next().await.unwrap().item.name, "nse-1");
    drop(first);
    second.register::<Endpoints>(endpoint(2, 1)).await.unwrap();
    assert_eq!(watch.next().await.unwrap().item.name, "nse-2");
    assert_eq!(second.find::<Endpoints>(&all).len(), 2);
    // Nobody else takes a name over, at whatever registry.
    let mut foreign = endpoint(1, 1);
    foreign.path_ids = vec!["spiffe://nsm/other".to_owned()];
    assert!(second.register::<Endpoints>(foreign).await.is_err());
    // What one ends is ended at all.
    let third = registry(&cluster, "pair").await;
    third
        .unregister::<Endpoints>(&endpoint(1, 1))
        .await
        .unwrap();
    let event = watch.next().await.unwrap();
    assert!(event.deleted && event.item.name == "nse-1", "{event:?}");
}
