//! A mesh's authority, servers and clients for the tests.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{Call, Chain, Connections, Element, Error, Next, Tasks};
use nsm_identity::{Identity, IdentitySource, ca::Root};
use nsm_model::{spiffe::SpiffeId, url::EndpointUrl};
use nsm_rpc::{Listener, Pool, Server, TokenSource};
use tokio::{sync::oneshot, time::Instant};

const LIFE: Duration = Duration::from_secs(3_600);

pub fn authority() -> &'static Root {
    static ROOT: OnceLock<Root> = OnceLock::new();
    ROOT.get_or_init(|| Root::generate("nsm.test".parse().unwrap()).unwrap())
}

pub fn id(name: &str) -> SpiffeId {
    format!("spiffe://nsm.test/{name}").parse().unwrap()
}

pub fn identity(name: &str) -> Arc<Identity> {
    authority().issue(&id(name), LIFE).unwrap()
}

pub fn source(name: &str) -> IdentitySource {
    IdentitySource::fixed(identity(name))
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

pub fn unix(folder: &Path) -> EndpointUrl {
    EndpointUrl::Unix(folder.join("nsm.sock").to_str().unwrap().to_owned())
}

pub fn free_port() -> EndpointUrl {
    EndpointUrl::parse("tcp://127.0.0.1:0")
}

/// A served role; goes when dropped.
pub struct Running {
    pub addresses: Vec<EndpointUrl>,
    pub stop: Option<oneshot::Sender<()>>,
    pub tasks: Tasks,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.tasks.guard());
    }
}

pub async fn serve(name: &str, addresses: &[EndpointUrl], server: Server) -> Running {
    serve_as(source(name), addresses, server).await
}

pub async fn serve_as(
    source: IdentitySource,
    addresses: &[EndpointUrl],
    server: Server,
) -> Running {
    let listener = Listener::bind(addresses).await.unwrap();
    let addresses = listener.addresses().to_vec();
    let (stop, stopped) = oneshot::channel::<()>();
    let tasks = Tasks::new();
    let routes = server.routes().await;
    tasks.spawn(async move {
        let shutdown = async {
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        listener.serve(routes, &source, shutdown).await.unwrap();
    });
    Running {
        addresses,
        stop: Some(stop),
        tasks,
    }
}

/// A caller with a pool and tokens of its own.
pub struct Caller {
    pub pool: Pool,
    pub tokens: TokenSource,
    pub tasks: Tasks,
}

impl Caller {
    pub fn new(name: &str) -> Self {
        Self::with(source(name))
    }

    pub fn with(source: IdentitySource) -> Self {
        let tasks = Tasks::new();
        Self {
            pool: Pool::new(source.clone(), tasks.clone()),
            tokens: TokenSource::new(source),
            tasks,
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        drop(self.tasks.guard());
    }
}

type Act = dyn for<'a> Fn(&'a mut Call, NetworkServiceRequest) -> BoxFuture<'a, Result<Connection, Error>>
    + Send
    + Sync;

/// A role of one element.
pub struct Does(Box<Act>);

#[async_trait]
impl Element<Connections> for Does {
    fn name(&self) -> &'static str {
        "does"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        _: Next<Connections>,
    ) -> Result<Connection, Error> {
        (self.0)(call, request).await
    }
}

impl Does {
    pub fn new(
        act: impl for<'a> Fn(
            &'a mut Call,
            NetworkServiceRequest,
        ) -> BoxFuture<'a, Result<Connection, Error>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Box::new(act))
    }
}

pub fn does(
    act: impl for<'a> Fn(
        &'a mut Call,
        NetworkServiceRequest,
    ) -> BoxFuture<'a, Result<Connection, Error>>
    + Send
    + Sync
    + 'static,
) -> Chain<Connections> {
    Chain::new(vec![Box::new(Does::new(act))])
}

/// Answers every request with its own connection.
pub fn echo() -> Chain<Connections> {
    Chain::new(Vec::new())
}

pub fn request(id: &str) -> NetworkServiceRequest {
    let connection = Connection {
        id: id.to_owned(),
        ..Connection::default()
    };
    NetworkServiceRequest {
        connection: buffa::MessageField::some(connection),
        ..NetworkServiceRequest::default()
    }
}
