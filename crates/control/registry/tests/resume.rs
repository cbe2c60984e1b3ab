//! A copy that comes back gets what changed, and no more; or all, where that is not known.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod common;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Manual, endpoint, query};
use futures_util::StreamExt as _;
use nsm_api::registry::{
    NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointQuery,
    NetworkServiceEndpointResponse, NetworkServiceQuery, NetworkServiceResponse,
};
use nsm_chain::{Call, Code, Endpoints, Error, Services};
use nsm_registry::{
    Config, Registry,
    mirror::{Followed, Mirror, Source},
    serve::Finder,
    store::{Store, memory::MemoryStore, redb::RedbStore},
};
use nsm_rpc::{
    Answers, Find,
    seen::{Marked, Seen},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const A: &str = "spiffe://nsm/a";

/// A registry that may be another one after the line was cut.
struct Line {
    registry: Mutex<Option<Registry>>,
    cut: Mutex<CancellationToken>,
    /// How many records of endpoints went over it.
    sent: Arc<AtomicUsize>,
    refused: AtomicUsize,
}

impl Line {
    fn to(registry: &Registry) -> Arc<Self> {
        Arc::new(Self {
            registry: Mutex::new(Some(registry.clone())),
            cut: Mutex::default(),
            sent: Arc::default(),
            refused: AtomicUsize::new(0),
        })
    }

    /// The registry is away from now on.
    fn cut(&self) {
        *self.registry.lock().unwrap() = None;
        self.cut.lock().unwrap().cancel();
    }

    /// It is back, or another one is.
    fn mend(&self, registry: &Registry) {
        *self.cut.lock().unwrap() = CancellationToken::new();
        *self.registry.lock().unwrap() = Some(registry.clone());
        self.sent.store(0, Ordering::SeqCst);
    }

    fn finder(&self) -> Result<Finder, Error> {
        let registry = self.registry.lock().unwrap().clone();
        let away = || Error::new(Code::Unavailable, "cut");
        registry.map(Finder).ok_or_else(away)
    }

    fn until(&self) -> CancellationToken {
        self.cut.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl Source for Line {
    async fn watch_services(
        &self,
        _: NetworkService,
        _: Instant,
    ) -> Result<Answers<NetworkServiceResponse>, Error> {
        unreachable!("it is followed")
    }

    async fn watch_endpoints(
        &self,
        _: NetworkServiceEndpoint,
        _: Instant,
    ) -> Result<Answers<NetworkServiceEndpointResponse>, Error> {
        unreachable!("it is followed")
    }

    async fn follow_services(
        &self,
        seen: &str,
        _: Instant,
    ) -> Result<Followed<NetworkServiceResponse>, Error> {
        let query = NetworkServiceQuery {
            watch: true,
            ..Default::default()
        };
        let call = Call::local(Instant::now());
        call.scratch.put(Seen(seen.to_owned()));
        let answers = Find::<Services>::find(&self.finder()?, call, query).await?;
        Ok(Followed {
            answers: answers.take_until(self.until().cancelled_owned()).boxed(),
            marked: true,
        })
    }

    async fn follow_endpoints(
        &self,
        seen: &str,
        _: Instant,
    ) -> Result<Followed<NetworkServiceEndpointResponse>, Error> {
        let query = NetworkServiceEndpointQuery {
            watch: true,
            ..Default::default()
        };
        let call = Call::local(Instant::now());
        call.scratch.put(Seen(seen.to_owned()));
        let scratch = Arc::clone(&call.scratch);
        let answers = Find::<Endpoints>::find(&self.finder()?, call, query).await;
        if answers.is_err() {
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
        let sent = Arc::clone(&self.sent);
        let counted = answers?.inspect(move |answer| {
            let named = |one: &NetworkServiceEndpointResponse| {
                !one.network_service_endpoint.name.is_empty()
            };
            if answer.as_ref().is_ok_and(named) {
                sent.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(Followed {
            answers: counted.take_until(self.until().cancelled_owned()).boxed(),
            marked: scratch.get::<Marked>().is_some(),
        })
    }

    async fn find_services(
        &self,
        _: NetworkService,
        _: Instant,
    ) -> Result<Vec<NetworkService>, Error> {
        unreachable!("it is followed")
    }

    async fn find_endpoints(
        &self,
        _: NetworkServiceEndpoint,
        _: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error> {
        unreachable!("it is followed")
    }
}

async fn registry(store: Arc<dyn Store>, clock: &Manual) -> Registry {
    Registry::open(store, Arc::new(clock.clone()), Config::default())
        .await
        .unwrap()
}

fn file(path: &Path) -> Arc<dyn Store> {
    Arc::new(RedbStore::open(path).unwrap())
}

async fn fill(registry: &Registry, clock: &Manual) {
    for n in 0..100 {
        let record = endpoint(&format!("nse-{n}"), A, "vpn", clock.at(600));
        registry.register::<Endpoints>(record).await.unwrap();
    }
}

/// One is new, one is changed, two are gone, of which one came back.
async fn change(registry: &Registry, clock: &Manual) {
    let of = |name: &str, seconds| endpoint(name, A, "vpn", clock.at(seconds));
    registry
        .register::<Endpoints>(of("new", 600))
        .await
        .unwrap();
    registry
        .register::<Endpoints>(of("nse-7", 900))
        .await
        .unwrap();
    for gone in ["nse-1", "nse-2"] {
        registry
            .unregister::<Endpoints>(&of(gone, 600))
            .await
            .unwrap();
    }
    registry
        .register::<Endpoints>(of("nse-2", 600))
        .await
        .unwrap();
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn equal(registry: &Registry, mirror: &Mirror) {
    let sorted = |mut list: Vec<Arc<NetworkServiceEndpoint>>| {
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    };
    let there = || sorted(registry.find::<Endpoints>(&query("vpn")));
    until("the copy is equal", || {
        sorted(mirror.endpoints(&query("vpn"))) == there()
    })
    .await;
}

async fn lost(mirror: &Mirror) {
    until("the loss is noticed", || !mirror.synced()).await;
}

async fn back(mirror: &Mirror) {
    let deadline = Instant::now() + Duration::from_secs(60);
    mirror.wait_synced(deadline).await.unwrap();
}

#[tokio::test]
async fn who_comes_back_gets_what_changed() {
    let clock = Manual::default();
    let registry = registry(Arc::new(MemoryStore::default()), &clock).await;
    fill(&registry, &clock).await;
    let line = Line::to(&registry);
    let mirror = Mirror::start(line.clone());
    back(&mirror).await;
    assert_eq!(line.sent.load(Ordering::SeqCst), 100, "everything, once");
    equal(&registry, &mirror).await;
    for (changed, most) in [(true, 7), (false, 7)] {
        line.cut();
        lost(&mirror).await;
        if changed {
            change(&registry, &clock).await;
        }
        line.mend(&registry);
        back(&mirror).await;
        let sent = line.sent.load(Ordering::SeqCst);
        assert!(sent <= most, "{sent} records for 5 changes");
        equal(&registry, &mirror).await;
    }
    assert_eq!(line.refused.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn so_does_who_comes_back_after_the_registry_was_restarted() {
    let clock = Manual::default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.redb");
    let first = registry(file(&path), &clock).await;
    fill(&first, &clock).await;
    let line = Line::to(&first);
    let mirror = Mirror::start(line.clone());
    back(&mirror).await;
    equal(&first, &mirror).await;
    line.cut();
    lost(&mirror).await;
    change(&first, &clock).await;
    let copy = folder.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    first.shutdown(Duration::from_secs(1)).await;
    drop(first);

    let second = reopened(&path, &clock).await;
    line.mend(&second);
    back(&mirror).await;
    let sent = line.sent.load(Ordering::SeqCst);
    assert!((5..=7).contains(&sent), "{sent} records for 5 changes");
    equal(&second, &mirror).await;
    assert_eq!(line.refused.load(Ordering::SeqCst), 0);

    // The file is taken back to what it was, and goes on from there: that is another life.
    let later = endpoint("later", A, "vpn", clock.at(600));
    second.register::<Endpoints>(later).await.unwrap();
    equal(&second, &mirror).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let again = endpoint("again", A, "vpn", clock.at(600));
    second.register::<Endpoints>(again).await.unwrap();
    equal(&second, &mirror).await;
    line.cut();
    lost(&mirror).await;
    second.shutdown(Duration::from_secs(1)).await;
    drop(second);
    let third = reopened(&copy, &clock).await;
    let other = endpoint("other", A, "vpn", clock.at(600));
    third.register::<Endpoints>(other).await.unwrap();
    line.mend(&third);
    back(&mirror).await;
    equal(&third, &mirror).await;
    assert_eq!(
        line.refused.load(Ordering::SeqCst),
        1,
        "asked once, then for everything"
    );
    assert!(mirror.endpoint("later").is_none() && mirror.endpoint("other").is_some());
}

/// Opens a file as soon as the registry before has let it go.
async fn reopened(path: &Path, clock: &Manual) -> Registry {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match RedbStore::open(path) {
            Ok(store) => return registry(Arc::new(store), clock).await,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
