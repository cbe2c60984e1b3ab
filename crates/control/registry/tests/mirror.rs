//! The copy: equal to its registry, also after it was away.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{endpoint, open, query, service, service_of};
use futures_util::StreamExt as _;
use nsm_api::registry::{
    NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointQuery,
    NetworkServiceEndpointResponse, NetworkServiceQuery, NetworkServiceResponse,
};
use nsm_chain::{Call, Code, Endpoints, Error, Services};
use nsm_registry::{
    Registry,
    mirror::{Mirror, Source},
    serve::Finder,
};
use nsm_rpc::{Answers, Find};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const A: &str = "spiffe://nsm/a";

/// A registry in this process whose streams can be cut.
struct Near {
    registry: Registry,
    /// Cancelled: the registry is away.
    line: Mutex<CancellationToken>,
    watches: AtomicUsize,
}

impl Near {
    fn line(&self) -> Result<CancellationToken, Error> {
        let line = self.line.lock().unwrap().clone();
        if line.is_cancelled() {
            Err(Error::new(Code::Unavailable, "cut"))
        } else {
            Ok(line)
        }
    }

    fn cut(&self) {
        self.line.lock().unwrap().cancel();
    }

    fn mend(&self) {
        *self.line.lock().unwrap() = CancellationToken::new();
    }
}

#[async_trait::async_trait]
impl Source for Near {
    async fn watch_services(
        &self,
        query: NetworkService,
        _: Instant,
    ) -> Result<Answers<NetworkServiceResponse>, Error> {
        let query = NetworkServiceQuery {
            network_service: buffa::MessageField::some(query),
            watch: true,
            ..Default::default()
        };
        let line = self.line()?;
        let finder = Finder(self.registry.clone());
        let answers = Find::<Services>::find(&finder, Call::local(Instant::now()), query).await?;
        Ok(answers.take_until(line.cancelled_owned()).boxed())
    }

    async fn watch_endpoints(
        &self,
        query: NetworkServiceEndpoint,
        _: Instant,
    ) -> Result<Answers<NetworkServiceEndpointResponse>, Error> {
        let network_service_endpoint = buffa::MessageField::some(query);
        let query = NetworkServiceEndpointQuery {
            network_service_endpoint,
            watch: true,
            ..Default::default()
        };
        self.watches.fetch_add(1, Ordering::SeqCst);
        let line = self.line()?;
        let finder = Finder(self.registry.clone());
        let answers = Find::<Endpoints>::find(&finder, Call::local(Instant::now()), query).await?;
        Ok(answers.take_until(line.cancelled_owned()).boxed())
    }

    async fn find_services(
        &self,
        query: NetworkService,
        _: Instant,
    ) -> Result<Vec<NetworkService>, Error> {
        self.line()?;
        Ok(self
            .registry
            .find::<Services>(&query)
            .iter()
            .map(|found| (**found).clone())
            .collect())
    }

    async fn find_endpoints(
        &self,
        query: NetworkServiceEndpoint,
        _: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error> {
        self.line()?;
        Ok(self
            .registry
            .find::<Endpoints>(&query)
            .iter()
            .map(|found| (**found).clone())
            .collect())
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = soon();
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn equal(registry: &Registry, mirror: &Mirror) {
    let mut there = registry.find::<Endpoints>(&query("vpn"));
    let mut copy = mirror.endpoints(&query("vpn"));
    there.sort_by(|a, b| a.name.cmp(&b.name));
    copy.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(copy, there);
}

async fn asks_a_lost_registry_rarely(source: &Near, mirror: &Mirror) {
    let error = mirror
        .wait_synced(Instant::now() + Duration::from_secs(60))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    let tries = source.watches.load(Ordering::SeqCst);
    assert!((10..40).contains(&tries), "{tries} attempts in a minute");
}

#[tokio::test(start_paused = true)]
async fn the_copy_follows_and_survives_a_gap() {
    let (registry, clock) = open().await;
    let of = |name: &str, seconds| endpoint(name, A, "vpn", clock.at(seconds));
    let source = Arc::new(Near {
        registry: registry.clone(),
        line: Mutex::default(),
        watches: AtomicUsize::new(0),
    });
    source.cut();
    registry
        .register::<Services>(service_of("vpn", A, "IP", 1))
        .await
        .unwrap();
    registry
        .register::<Endpoints>(of("stays", 600))
        .await
        .unwrap();
    registry
        .register::<Endpoints>(of("goes", 600))
        .await
        .unwrap();

    let mirror = Mirror::start(source.clone());
    asks_a_lost_registry_rarely(&source, &mirror).await;
    source.mend();
    mirror.wait_synced(soon()).await.unwrap();
    assert_eq!(mirror.service("vpn").unwrap().matches.len(), 1);
    assert_eq!(mirror.services(&service("")).len(), 1);
    assert_eq!(mirror.endpoints(&query("vpn")).len(), 2);

    let mut watch = mirror.watch::<Endpoints>(query("vpn")).unwrap();
    for _ in 0..2 {
        assert!(!watch.next().await.unwrap().deleted);
    }
    registry
        .register::<Endpoints>(of("new", 600))
        .await
        .unwrap();
    assert_eq!(watch.next().await.unwrap().item.name, "new");

    source.cut();
    until("the loss is noticed", || !mirror.synced()).await;
    registry
        .unregister::<Endpoints>(&of("goes", 600))
        .await
        .unwrap();
    registry
        .register::<Endpoints>(of("later", 600))
        .await
        .unwrap();
    assert_eq!(
        mirror.endpoints(&query("vpn")).len(),
        3,
        "the old view is kept"
    );
    source.mend();
    mirror.wait_synced(soon()).await.unwrap();
    let mut seen: Vec<(String, bool)> = Vec::new();
    for _ in 0..2 {
        let event = watch.next().await.unwrap();
        seen.push((event.item.name.clone(), event.deleted));
    }
    assert_eq!(
        seen,
        [("goes".to_owned(), true), ("later".to_owned(), false)],
        "the difference, once"
    );
    equal(&registry, &mirror);
}

#[tokio::test]
async fn what_is_inserted_or_asked_for_is_there_at_once() {
    let (registry, clock) = open().await;
    let of = |name: &str| endpoint(name, A, "vpn", clock.at(600));
    let source = Arc::new(Near {
        registry: registry.clone(),
        line: Mutex::default(),
        watches: AtomicUsize::new(0),
    });
    let mirror = Mirror::start(source.clone());
    mirror.wait_synced(soon()).await.unwrap();
    mirror.insert::<Endpoints>(of("own"));
    assert!(mirror.endpoint("own").is_some());
    mirror.remove::<Endpoints>("own");
    assert!(mirror.endpoint("own").is_none());
    source.cut();
    until("the loss is noticed", || !mirror.synced()).await;
    let error = mirror
        .find_through::<Endpoints>(query("vpn"), soon())
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    registry.register::<Endpoints>(of("fresh")).await.unwrap();
    source.mend();
    assert_eq!(
        mirror
            .find_through::<Endpoints>(query("vpn"), soon())
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(mirror.endpoint("fresh").is_some());
    let watchers = registry.counts::<Endpoints>().1;
    drop(mirror);
    until("a dropped mirror's watch ends", || {
        registry.counts::<Endpoints>().1 < watchers.max(1)
    })
    .await;
}
