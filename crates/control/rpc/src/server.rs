//! From gRPC to chains: the services of a role, served from its lists of elements.

use std::{
    any::Any,
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures_util::{FutureExt as _, Stream};
use nsm_api::{
    connection::{ConnectionEvent, MonitorScopeSelector},
    registry::{
        NetworkServiceEndpointQuery, NetworkServiceEndpointResponse, NetworkServiceQuery,
        NetworkServiceResponse,
    },
};
use nsm_chain::{Call, Chain, Code, Connections, Endpoints, Error, Kind, Services, Token};
use tokio::time::Instant;
use tonic::{
    Request, Status,
    body::Body,
    server::NamedService,
    service::{Routes, RoutesBuilder},
};

use crate::{
    adapt::{ConnectionService, EndpointService, MonitorService, ServiceService},
    generated::{
        endpoint_registry::network_service_endpoint_registry_server::NetworkServiceEndpointRegistryServer,
        monitor_connection::monitor_connection_server::MonitorConnectionServer,
        network_service::network_service_server::NetworkServiceServer,
        service_registry::network_service_registry_server::NetworkServiceRegistryServer,
    },
    health, meta,
    peer::Peer,
    skew,
    status::to_status,
};

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>;

/// The kinds that a registry finds.
pub trait Lookup: Kind {
    /// What is looked for, and whether to watch.
    type Query: Send + 'static;
    /// One find.
    type Found: Send + 'static;
}

impl Lookup for Services {
    type Query = NetworkServiceQuery;
    type Found = NetworkServiceResponse;
}

impl Lookup for Endpoints {
    type Query = NetworkServiceEndpointQuery;
    type Found = NetworkServiceEndpointResponse;
}

/// Answers `Find` of one kind.
#[async_trait]
pub trait Find<K: Lookup>: Send + Sync + 'static {
    /// All that match now; with `watch`, then every change until the caller goes.
    ///
    /// # Errors
    /// Those of the look-up; a stream that began can end with one as well.
    async fn find(&self, call: Call, query: K::Query) -> Result<Answers<K::Found>, Error>;
}

/// Answers `MonitorConnections`.
#[async_trait]
pub trait Monitor: Send + Sync + 'static {
    /// First the state that the caller may see, then every change of it.
    ///
    /// # Errors
    /// Those of the role; a stream that began can end with one as well.
    async fn watch(
        &self,
        call: Call,
        selector: MonitorScopeSelector,
    ) -> Result<Answers<ConnectionEvent>, Error>;
}

/// Collects the gRPC services of a role.
#[derive(Debug, Default)]
pub struct Server {
    routes: RoutesBuilder,
    names: Vec<&'static str>,
}

impl Server {
    /// A server without services.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `networkservice.NetworkService`.
    #[must_use]
    pub fn connections(self, chain: Chain<Connections>) -> Self {
        self.service(NetworkServiceServer::new(ConnectionService(chain)))
    }

    /// `connection.MonitorConnection`.
    #[must_use]
    pub fn monitor(self, monitor: impl Monitor) -> Self {
        self.service(MonitorConnectionServer::new(MonitorService(Arc::new(
            monitor,
        ))))
    }

    /// `registry.NetworkServiceRegistry`.
    #[must_use]
    pub fn services(self, chain: Chain<Services>, find: impl Find<Services>) -> Self {
        self.service(NetworkServiceRegistryServer::new(ServiceService(
            chain,
            Arc::new(find),
        )))
    }

    /// `registry.NetworkServiceEndpointRegistry`.
    #[must_use]
    pub fn endpoints(self, chain: Chain<Endpoints>, find: impl Find<Endpoints>) -> Self {
        self.service(NetworkServiceEndpointRegistryServer::new(EndpointService(
            chain,
            Arc::new(find),
        )))
    }

    /// Any other gRPC service.
    #[must_use]
    pub fn service<S>(mut self, service: S) -> Self
    where
        S: tower::Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes.add_service(service);
        self
    }

    /// What [`Listener::serve`](crate::listen::Listener::serve) takes: everything added, and the
    /// health of each by name.
    pub async fn routes(mut self) -> Routes {
        self.routes.add_service(health::server(&self.names).await);
        self.routes.routes()
    }
}

/// The call behind a request: who asks, with which token, until when.
///
/// # Errors
/// Malformed metadata, as a status for the caller.
pub fn call_of<T>(request: &Request<T>) -> Result<Call, Status> {
    let peer = request.extensions().get::<Arc<Peer>>().ok_or_else(|| {
        Status::internal("the connection has no peer: it was not made by this listener")
    })?;
    let read = || {
        let token = meta::token(request.metadata())?;
        let timeout = meta::timeout(request.metadata())?;
        Ok::<_, Error>((token, timeout.unwrap_or(meta::DEFAULT_TIMEOUT)))
    };
    let (token, timeout): (Option<Token>, Duration) = read().map_err(|error| to_status(&error))?;
    let token = token.map(|token| {
        let now = SystemTime::now();
        let expires = skew::end(peer, &token.jwt, token.expires, now);
        let left = skew::left(token.left, expires, now);
        Token {
            expires,
            left,
            ..token
        }
    });
    let call = Call::from(peer.caller(), token, Instant::now() + timeout);
    call.scratch.put(Arc::clone(peer));
    Ok(call)
}

/// Runs one call's work; a panic in it is this process's fault and ends that call alone.
pub(crate) async fn fenced<T>(
    what: &'static str,
    work: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, Error> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => done,
        Err(panic) => {
            tracing::error!(what, panic = panic_text(&*panic), "a call panicked");
            let message = format!("{what} failed by a fault of this program; its log says where");
            Err(Error::new(Code::Internal, message))
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
