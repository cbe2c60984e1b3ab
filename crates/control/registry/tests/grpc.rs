//! The registry over gRPC with mutual TLS: what a peer proves is what is stored, and a mirror
//! follows from afar.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use nsm_api::{
    connection::Path,
    registry::{NetworkService, NetworkServiceEndpoint},
};
use nsm_chain::{Code, Error, Expected, Target, Tasks};
use nsm_identity::{IdentitySource, ca::Root};
use nsm_model::url::EndpointUrl;
use nsm_policy::{
    denial::{Denial, Kind},
    roles::RoleSource,
};
use nsm_registry::{
    Config, Registry, SystemClock,
    chain::{LIFETIME, Parts},
    mirror::{Mirror, RpcSource, Source as _},
    serve::serve,
    store::memory::MemoryStore,
};
use nsm_rpc::{Listener, Pool, Server, TokenSource, Transport, client, seen::NOTHING};
use tokio::time::Instant;

const DOMAIN: &str = "nsm.test";

/// One process of the mesh.
struct Process {
    pool: Pool,
    tokens: TokenSource,
    registry: EndpointUrl,
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn identity(root: &Root, name: &str) -> IdentitySource {
    let id = format!("spiffe://{DOMAIN}/{name}").parse().unwrap();
    IdentitySource::fixed(root.issue(&id, Duration::from_secs(3600)).unwrap())
}

async fn start(root: &Root, tasks: &Tasks) -> EndpointUrl {
    let source = identity(root, "registry");
    let store = Arc::new(MemoryStore::default());
    let registry = Registry::open(store, Arc::new(SystemClock), Config::default())
        .await
        .unwrap();
    let parts = Parts {
        registry,
        tokens: Arc::new(TokenSource::new(source.clone())),
        tasks: tasks.clone(),
        lifetime: LIFETIME,
        roles: RoleSource::standard(&DOMAIN.parse().unwrap()),
    };
    let routes = serve(Server::new(), &parts).routes().await;
    let listener = Listener::bind(&[EndpointUrl::parse("tcp://127.0.0.1:0")])
        .await
        .unwrap();
    let address = listener.addresses()[0].clone();
    tasks.spawn(async move {
        listener
            .serve(routes, &source, std::future::pending())
            .await
            .unwrap()
    });
    address
}

impl Process {
    fn new(root: &Root, name: &str, registry: &EndpointUrl, tasks: &Tasks) -> Self {
        let source = identity(root, name);
        Self {
            pool: Pool::new(source.clone(), tasks.clone()),
            tokens: TokenSource::new(source),
            registry: registry.clone(),
        }
    }

    async fn register(&self, name: &str) -> Result<(NetworkServiceEndpoint, Path), Error> {
        let peer = self.pool.connect(&self.registry, None, soon()).await?;
        let mut path = Path::default();
        let answer =
            client::endpoints::register(&peer, &self.tokens, endpoint(name), &mut path, soon())
                .await?;
        Ok((answer, path))
    }

    async fn unregister(&self, name: &str) -> Result<(), Error> {
        let peer = self.pool.connect(&self.registry, None, soon()).await?;
        client::endpoints::unregister(
            &peer,
            &self.tokens,
            endpoint(name),
            &mut Path::default(),
            soon(),
        )
        .await
    }

    fn source(&self) -> RpcSource {
        RpcSource {
            transport: Transport::new(self.pool.clone(), self.tokens.clone())
                .expecting(is("registry")),
            target: Target::Url(self.registry.clone()),
        }
    }
}

/// The peer with this name alone.
fn is(name: &'static str) -> Expected {
    Expected::new(move |peer| {
        if peer.path() == format!("/{name}") {
            return Ok(());
        }
        let why = format!("{peer} is not {name}");
        Err(Denial::new(Kind::Answer, peer, "answer", why))
    })
}

fn endpoint(name: &str) -> NetworkServiceEndpoint {
    NetworkServiceEndpoint {
        name: name.to_owned(),
        network_service_names: vec!["vpn".to_owned()],
        url: "tcp://10.0.0.1:5001".to_owned(),
        ..Default::default()
    }
}

/// A peer that does not know of marks gets none; one that was elsewhere is told so.
async fn marks_come_to_who_asks(source: &RpcSource) {
    let all = NetworkServiceEndpoint::default();
    let mut plain = source.watch_endpoints(all, soon()).await.unwrap();
    let first = plain.next().await.unwrap().unwrap();
    assert_eq!(first.network_service_endpoint.name, "nse-2");
    let next = tokio::time::timeout(Duration::from_millis(700), plain.next()).await;
    assert!(next.is_err(), "{next:?}");

    let followed = source.follow_endpoints(NOTHING, soon()).await.unwrap();
    assert!(followed.marked);
    let begun: Vec<_> = followed.answers.take(2).collect().await;
    let names = begun.iter().map(|one| {
        let record = &one.as_ref().unwrap().network_service_endpoint;
        (record.name.as_str(), record.url.is_empty())
    });
    let names: Vec<_> = names.collect();
    assert_eq!(
        names,
        [("nse-2", false), ("", false)],
        "a record, then a mark"
    );
    let mark = begun[1]
        .as_ref()
        .unwrap()
        .network_service_endpoint
        .url
        .clone();
    assert!(source.follow_endpoints(&mark, soon()).await.unwrap().marked);
    let error = source.follow_endpoints("beef.1", soon()).await.unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    let error = source
        .follow_endpoints(&"9".repeat(100), soon())
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_peer_proves_is_what_is_stored() {
    let root = Root::generate(DOMAIN.parse().unwrap()).unwrap();
    let tasks = Tasks::new();
    let registry = start(&root, &tasks).await;
    let [ours, foreign, manager] =
        ["nse-a", "nse-b", "manager/1"].map(|name| Process::new(&root, name, &registry, &tasks));

    let (answer, path) = ours.register("nse-1").await.unwrap();
    let ids = ["nse-a", "registry"].map(|name| format!("spiffe://{DOMAIN}/{name}"));
    assert_eq!(answer.path_ids, ids);
    assert!(answer.expiration_time.is_set() && answer.initial_registration_time.is_set());
    assert_eq!(
        (path.index, path.path_segments.len()),
        (0, 2),
        "the path comes back in the header"
    );
    assert!(
        path.path_segments
            .iter()
            .all(|segment| !segment.token.is_empty())
    );
    for refused in [
        foreign.register("nse-1").await.map(drop),
        foreign.unregister("nse-1").await,
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.code, Code::PermissionDenied);
        assert!(
            error.message.contains("belongs to spiffe://nsm.test/nse-a"),
            "{error}"
        );
    }

    let mirror = Mirror::start(Arc::new(manager.source()));
    mirror.wait_synced(soon()).await.unwrap();
    assert_eq!(mirror.endpoint("nse-1").unwrap().url, "tcp://10.0.0.1:5001");
    let query = NetworkServiceEndpoint {
        network_service_names: vec!["vpn".to_owned()],
        ..Default::default()
    };
    let mut watch = mirror.watch::<nsm_chain::Endpoints>(query).unwrap();
    assert_eq!(watch.next().await.unwrap().item.name, "nse-1");
    ours.register("nse-2").await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(10), watch.next())
        .await
        .unwrap()
        .unwrap();
    assert!(event.item.name == "nse-2" && !event.deleted);
    ours.unregister("nse-1").await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(10), watch.next())
        .await
        .unwrap()
        .unwrap();
    assert!(event.item.name == "nse-1" && event.deleted);
    let found = manager
        .source()
        .find_services(NetworkService::default(), soon())
        .await
        .unwrap();
    assert!(found.is_empty());

    marks_come_to_who_asks(&manager.source()).await;
    let mut impostor = manager.source();
    impostor.transport = impostor.transport.expecting(is("other"));
    let error = impostor
        .find_endpoints(endpoint("nse-2"), soon())
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied);
    tasks.shutdown(Duration::from_secs(1)).await;
}
