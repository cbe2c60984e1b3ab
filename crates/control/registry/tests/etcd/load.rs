//! Two registries over one cluster, under load, while the cluster loses its leader.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use buffa::MessageField;
use buffa_types::google::protobuf::Timestamp;
use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::Endpoints;
use nsm_registry::{Config, Registry, SystemClock};
use tokio::task::JoinSet;

use crate::cluster::Cluster;

/// Registrations a second.
const RATE: u64 = 200;
/// How long each phase lasts: before the kill, and after it.
const PHASE: Duration = Duration::from_secs(5);
/// How many different endpoints: more than are written, so that each answered one must be there.
const ENDPOINTS: u64 = 4_000;
/// Between two reads of one registry.
const READ_EVERY: Duration = Duration::from_millis(1);
/// Which phase it is, for the reader.
const BEFORE: usize = 0;
const AFTER: usize = 1;
const END: usize = 2;

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Writes that were answered.
    pub(crate) acknowledged: usize,
    /// Writes that failed twice.
    pub(crate) failed: usize,
    /// Answered writes that are not there.
    pub(crate) lost: usize,
    /// From the kill to the first answer to a write that was sent after it.
    pub(crate) back: Duration,
    /// The longest that any write took.
    pub(crate) slowest: Duration,
    /// 99 of 100 reads took no longer: before the kill, and after it.
    pub(crate) reads_p99: [Duration; 2],
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

pub(crate) async fn registry(cluster: &Cluster, prefix: &str) -> Registry {
    let store = cluster.store(prefix);
    Registry::open(store, Arc::new(SystemClock), Config::default())
        .await
        .unwrap()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = times.len() * 99 / 100;
    times.get(at).copied().unwrap_or_default()
}

/// Finds by name on a thread of its own until it is told to end.
fn read(registry: &Registry, phase: &AtomicUsize) -> [Vec<Duration>; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for n in 0.. {
        let query = NetworkServiceEndpoint {
            name: format!("nse-{}", n % ENDPOINTS),
            ..Default::default()
        };
        let now = phase.load(Ordering::Relaxed);
        let asked = Instant::now();
        std::hint::black_box(registry.find::<Endpoints>(&query));
        match times.get_mut(now) {
            Some(times) => times.push(asked.elapsed()),
            None => break,
        }
        std::thread::sleep(READ_EVERY);
    }
    times
}

struct Written {
    name: u64,
    write: u64,
    sent: Instant,
    answered: Result<Instant, String>,
}

/// One write, with the one retry that a client makes.
async fn write(registry: Registry, write: u64) -> Written {
    let (sent, name) = (Instant::now(), write % ENDPOINTS);
    let mut done = registry.register::<Endpoints>(endpoint(name, write)).await;
    if done.is_err() {
        done = registry.register::<Endpoints>(endpoint(name, write)).await;
    }
    Written {
        name,
        write,
        sent,
        answered: done
            .map(|_| Instant::now())
            .map_err(|error| error.to_string()),
    }
}

/// Kills the leader under load, with two registries.
pub(crate) async fn leader_is_killed(cluster: &mut Cluster, prefix: &str) -> Figures {
    let registries = [
        registry(cluster, prefix).await,
        registry(cluster, prefix).await,
    ];
    let phase = Arc::new(AtomicUsize::new(BEFORE));
    let reader = {
        let (registry, phase) = (registries[0].clone(), Arc::clone(&phase));
        std::thread::spawn(move || read(&registry, &phase))
    };
    let leader = cluster.leader();
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
    let mut writes = JoinSet::new();
    let start = Instant::now();
    let mut killed = None;
    for n in 0_u64.. {
        ticks.tick().await;
        if killed.is_none() && start.elapsed() > PHASE {
            cluster.kill(leader);
            killed = Some(Instant::now());
            phase.store(AFTER, Ordering::Relaxed);
        }
        if start.elapsed() > PHASE * 2 {
            break;
        }
        let at = &registries[usize::try_from(n % 2).unwrap()];
        writes.spawn(write(at.clone(), n));
    }
    let written = writes.join_all().await;
    phase.store(END, Ordering::Relaxed);
    let times = reader.join().unwrap();
    let mut figures = count(&written, killed.unwrap());
    figures.reads_p99 = times.map(p99);
    figures.lost = lost(cluster, prefix, &written).await;
    for registry in registries {
        registry.shutdown(Duration::from_secs(1)).await;
    }
    figures
}

fn count(written: &[Written], killed: Instant) -> Figures {
    let mut figures = Figures {
        back: Duration::MAX,
        ..Figures::default()
    };
    for one in written {
        match &one.answered {
            Ok(at) => {
                figures.acknowledged += 1;
                figures.slowest = figures.slowest.max(*at - one.sent);
                if one.sent > killed {
                    figures.back = figures.back.min(*at - killed);
                }
            }
            Err(error) => {
                println!("failed: {error}");
                figures.failed += 1;
            }
        }
    }
    figures
}

/// How many names are missing, or have a value older than one that was answered before the next
/// was sent.
async fn lost(cluster: &Cluster, prefix: &str, written: &[Written]) -> usize {
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    for one in written.iter().filter(|one| one.answered.is_ok()) {
        let known = newest.entry(one.name).or_default();
        *known = one.write.max(*known);
    }
    let there = registry(cluster, prefix).await;
    let missing = newest.iter().filter(|(name, write)| {
        let found = there.get::<Endpoints>(&format!("nse-{name}"));
        found.is_none_or(|found| found.url != endpoint(**name, **write).url)
    });
    missing.count()
}
