//! The registry's figures: `cargo bench -p nsm-registry`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and may stop"
)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use buffa::MessageField;
use buffa_types::google::protobuf::Timestamp;
use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::Endpoints;
use nsm_registry::{
    Clock as _, Config, Registry, SystemClock,
    store::{Expect, Store, memory::MemoryStore, redb::RedbStore},
};

const ENDPOINTS: usize = 10_000;
const SERVICES: usize = 1_000;
const WRITERS: usize = 8;
const WRITES: usize = 500;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        finds().await;
        fan_out().await;
        registers().await;
    });
}

fn endpoint(n: usize) -> NetworkServiceEndpoint {
    let service = format!("service-{}", n % SERVICES);
    let mut record = NetworkServiceEndpoint {
        name: format!("nse-{n}"),
        network_service_names: vec![service.clone(), "everybody".to_owned()],
        url: format!("tcp://10.0.{}.{}:5001", n / 250 % 250, n % 250),
        expiration_time: MessageField::some(Timestamp::from(
            SystemClock.now() + Duration::from_secs(3600),
        )),
        path_ids: vec![
            format!("spiffe://nsm/nse-{n}"),
            "spiffe://nsm/manager/1".to_owned(),
        ],
        ..Default::default()
    };
    let labels = &mut record
        .network_service_labels
        .entry(service)
        .or_default()
        .labels;
    labels.insert("app".to_owned(), "gateway".to_owned());
    labels.insert("node".to_owned(), format!("node-{}", n % 100));
    record
}

async fn open(store: Arc<dyn Store>) -> Registry {
    Registry::open(store, Arc::new(SystemClock), Config::default())
        .await
        .unwrap()
}

async fn filled() -> Registry {
    let registry = open(Arc::new(MemoryStore::default())).await;
    for n in 0..ENDPOINTS {
        registry.register::<Endpoints>(endpoint(n)).await.unwrap();
    }
    registry
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn service(name: String) -> NetworkServiceEndpoint {
    NetworkServiceEndpoint {
        network_service_names: vec![name],
        ..Default::default()
    }
}

async fn finds() {
    let registry = filled().await;
    let by_url = |n: usize| NetworkServiceEndpoint {
        url: endpoint(n).url,
        ..Default::default()
    };
    let by_name = |n: usize| NetworkServiceEndpoint {
        name: format!("nse-{n}"),
        ..Default::default()
    };
    type Query<'a> = (&'a str, Box<dyn Fn(usize) -> NetworkServiceEndpoint>);
    let queries: [Query<'_>; 4] = [
        (
            "service of 10 (bound 0.2 ms)",
            Box::new(|n| service(format!("service-{}", n % SERVICES))),
        ),
        (
            "service of 10,000",
            Box::new(|_| service("everybody".to_owned())),
        ),
        ("url", Box::new(by_url)),
        ("name", Box::new(by_name)),
    ];
    for (what, query) in queries {
        let times = (0..1_000)
            .map(|n| {
                let query = query(n * 7 % ENDPOINTS);
                let start = Instant::now();
                black_box(registry.find::<Endpoints>(&query));
                start.elapsed()
            })
            .collect();
        println!("Find among {ENDPOINTS} by {what}: p50 {:?}", median(times));
    }
}

/// 200 events, each wanted by one watcher; upstream: 1.5 ms with 10 watchers, 300 ms with 5,000.
async fn fan_out() {
    for watchers in [10, 5_000] {
        let registry = open(Arc::new(MemoryStore::default())).await;
        let mut watches: Vec<_> = (0..watchers)
            .map(|n| {
                let query = NetworkServiceEndpoint {
                    name: format!("nse-{n}"),
                    ..Default::default()
                };
                registry.watch::<Endpoints>(query).unwrap()
            })
            .collect();
        let start = Instant::now();
        for n in 0..200 {
            registry
                .register::<Endpoints>(endpoint(n % watchers))
                .await
                .unwrap();
            watches[n % watchers].next().await.unwrap();
        }
        println!(
            "200 events with {watchers} watchers, each wanted by one: {:?}",
            start.elapsed()
        );
    }
}

async fn registers() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> =
        Arc::new(RedbStore::open(&folder.path().join("bare.redb")).unwrap());
    let start = Instant::now();
    for n in 0..WRITES {
        store
            .put(&n.to_string(), vec![0; 300].into(), Expect::Any, None)
            .await
            .unwrap();
    }
    let floor = start.elapsed() / u32::try_from(WRITES).unwrap();
    println!("floor: one put after another into redb: {floor:?} each");
    let registry = open(Arc::new(
        RedbStore::open(&folder.path().join("registry.redb")).unwrap(),
    ))
    .await;
    for writers in [1, WRITERS] {
        let mut tasks = tokio::task::JoinSet::new();
        let start = Instant::now();
        for writer in 0..writers {
            let registry = registry.clone();
            tasks.spawn(async move {
                let mut times = Vec::with_capacity(WRITES);
                for write in 0..WRITES {
                    let start = Instant::now();
                    registry
                        .register::<Endpoints>(endpoint(writer * WRITES + write))
                        .await
                        .unwrap();
                    times.push(start.elapsed());
                }
                times
            });
        }
        let times = tasks.join_all().await.concat();
        let rate = times.len() as f64 / start.elapsed().as_secs_f64();
        println!(
            "Register through redb, {writers} writers: {rate:.0}/s, p50 {:?}",
            median(times)
        );
    }
}
