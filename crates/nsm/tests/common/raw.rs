//! A peer that speaks the wire API by itself, with any identity, token and descriptor.

use std::{sync::Arc, time::Duration};

use buffa::MessageField;
use futures_util::StreamExt as _;
use nsm_api::{
    connection::{Connection, Mechanism, MonitorScopeSelector, Path, PathSegment},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{Code, Directory as _, Error, Target, Tasks};
use nsm_identity::{Identity, IdentitySource, ca::Root};
use nsm_lab::mesh::TRUST_DOMAIN;
use nsm_model::url::EndpointUrl;
use nsm_registry::remote::Remote;
use nsm_rpc::{Hop, Pool, TokenSource, Transport, client};
use tokio::time::Instant;

use super::world::World;

const LIFE: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(10);

/// A peer's way to its calls.
pub(crate) struct Raw {
    pub(crate) transport: Transport,
    _tasks: Tasks,
}

pub(crate) fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// An identity of the lab's own authority.
pub(crate) fn identity(world: &World, name: &str, life: Duration) -> Arc<Identity> {
    let folder = world.mesh.node(0).node().folder().join("ca");
    let root = Root::open(&folder, TRUST_DOMAIN.parse().unwrap()).unwrap();
    let id = format!("spiffe://{TRUST_DOMAIN}/{name}").parse().unwrap();
    root.issue(&id, life).unwrap()
}

pub(crate) fn known(world: &World, name: &str) -> Arc<Identity> {
    identity(world, name, LIFE)
}

/// Speaks as that identity from a node's network namespace.
pub(crate) fn speak<T: Send>(
    world: &World,
    at: usize,
    identity: Arc<Identity>,
    work: impl AsyncFnOnce(&Raw) -> T + Send,
) -> T {
    let cell = world.mesh.node(at).node().cell().clone();
    let spoken = cell.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let source = IdentitySource::fixed(Arc::clone(&identity));
            let tasks = Tasks::new();
            let pool = Pool::new(source.clone(), tasks.clone());
            let raw = Raw {
                transport: Transport::new(pool, TokenSource::new(source)),

                _tasks: tasks.clone(),
            };
            let done = work(&raw).await;
            tasks.shutdown(Duration::from_millis(200)).await;
            done
        })
    });
    spoken.unwrap()
}

/// A node's manager by its unix socket.
pub(crate) fn manager(world: &World, at: usize) -> Target {
    let socket = world
        .mesh
        .node(at)
        .node()
        .socket_folder()
        .join("nsm.io.sock");
    Target::Url(EndpointUrl::Unix(socket.to_str().unwrap().to_owned()))
}

impl Raw {
    pub(crate) async fn hop(&self, target: &Target) -> Result<Hop, Error> {
        self.transport.hop(target, soon()).await
    }

    pub(crate) async fn request(
        &self,
        target: &Target,
        request: NetworkServiceRequest,
    ) -> Result<Connection, Error> {
        let hop = self.hop(target).await?;
        client::request(&hop.peer, &hop.tokens, request, soon()).await
    }
}

/// A first request.
pub(crate) fn request(
    id: &str,
    service: &str,
    mechanisms: Vec<Mechanism>,
) -> NetworkServiceRequest {
    let segment = PathSegment {
        name: id.to_owned(),
        id: id.to_owned(),
        ..Default::default()
    };
    let connection = Connection {
        id: id.to_owned(),
        network_service: service.to_owned(),
        path: MessageField::some(Path {
            path_segments: vec![segment],
            ..Default::default()
        }),
        ..Default::default()
    };
    NetworkServiceRequest {
        connection: MessageField::some(connection),
        mechanism_preferences: mechanisms,
        ..Default::default()
    }
}

/// Every service and endpoint in the registry.
pub(crate) fn registry(world: &World) -> Vec<String> {
    let target = Target::Url(EndpointUrl::parse(&world.mesh.registry_url()));
    speak(world, 0, known(world, "operator/tests"), async |raw| {
        let remote = Remote::new(raw.transport.clone(), target);
        let services = remote.services("", soon()).await.unwrap();
        let endpoints = remote.all_endpoints(soon()).await.unwrap();
        let services = services.iter().map(|one| format!("service {}", one.name));
        let endpoints = endpoints
            .iter()
            .map(|one| format!("endpoint {} at {}", one.name, one.url));
        services.chain(endpoints).collect()
    })
}

/// Every connection of a node's manager and forwarder.
pub(crate) fn connections(world: &World, at: usize) -> Vec<String> {
    let target = manager(world, at);
    let node = world.mesh.node(at).node().name().to_owned();
    speak(world, at, known(world, "operator/tests"), async |raw| {
        let mut rows = watched(raw, &target, &format!("manager-{node}"))
            .await
            .unwrap();
        let remote = Remote::new(raw.transport.clone(), target);
        let name = format!("forwarder-{node}");
        // One that is not registered holds nothing that could be asked for.
        if let Ok(endpoint) = remote.endpoint(&name, soon()).await {
            let socket = remote.target(&endpoint, soon()).await.unwrap();
            rows.extend(watched(raw, &socket, &name).await.unwrap());
        }
        rows
    })
}

/// What a peer's monitor stream begins with.
pub(crate) async fn connections_of(raw: &Raw, target: &Target) -> Result<Vec<Connection>, Error> {
    let hop = raw.hop(target).await?;
    let selector = MonitorScopeSelector::default();
    let mut events = client::monitor(&hop.peer, &hop.tokens, selector, soon()).await?;
    let ended = || Error::new(Code::Unavailable, "no initial state");
    let first = events.next().await.ok_or_else(ended)??;
    Ok(first.connections.into_values().collect())
}

async fn watched(raw: &Raw, target: &Target, who: &str) -> Result<Vec<String>, Error> {
    let found = connections_of(raw, target).await?;
    let rows = found.iter().map(|one| {
        let path = &one.path.path_segments;
        let maker = path.first().map_or("", |segment| segment.id.as_str());
        format!("{who}: connection of {maker} {:?}", one.state)
    });
    Ok(rows.collect())
}

/// A client's connection as its manager knows it.
pub(crate) fn seen(world: &World, at: usize, client: &str) -> Connection {
    let target = manager(world, at);
    let all = speak(world, at, known(world, "operator/tests"), async |raw| {
        connections_of(raw, &target).await.unwrap()
    });
    let of_it = |one: &Connection| one.path.path_segments[0].name == client;
    all.into_iter()
        .find(of_it)
        .unwrap_or_else(|| panic!("no connection of {client}"))
}
