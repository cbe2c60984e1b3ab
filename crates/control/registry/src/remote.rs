//! A registry, or a manager's view of one, over the wire: looked up in, registered at.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use buffa::MessageField;
use futures_util::{StreamExt as _, stream::BoxStream};
use nsm_api::{
    connection::Path,
    registry::{
        NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointQuery, NetworkServiceQuery,
    },
};
use nsm_chain::{Code, Directory, Error, Registrar, Target};
use nsm_model::url::{EndpointUrl, InodeUrl};
use nsm_rpc::{
    DescriptorError, Hop, PeerHandle, Transport,
    client::{endpoints, services},
    inode_url,
};
use rustix::fs::{Mode, OFlags};
use tokio::time::Instant;

use crate::mirror::{RpcSource, Source as _};

/// The most answers that one look-up takes: as many as a registry holds of a busy service.
const MAX_FOUND: usize = 16_384;

/// See the module.
#[derive(Debug, Clone)]
pub struct Remote {
    transport: Transport,
    target: Target,
    /// Whom we registered with last: when it is gone, everything must be registered again.
    registered: Arc<Mutex<Option<PeerHandle>>>,
}

impl Remote {
    /// The registry at `target`.
    #[must_use]
    pub fn new(transport: Transport, target: Target) -> Self {
        Self {
            transport,
            target,
            registered: Arc::default(),
        }
    }

    async fn hop(&self, deadline: Instant) -> Result<Hop, Error> {
        self.transport.hop(&self.target, deadline).await
    }

    async fn find_endpoints(
        &self,
        wanted: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error> {
        Self::find(&self.hop(deadline).await?, wanted, deadline).await
    }

    async fn find(
        hop: &Hop,
        wanted: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error> {
        let query = NetworkServiceEndpointQuery {
            network_service_endpoint: MessageField::some(wanted),
            ..Default::default()
        };
        let mut answers = endpoints::find(&hop.peer, &hop.tokens, query, deadline).await?;
        let mut found = Vec::new();
        while let Some(answer) = answers.next().await {
            found.extend(answer?.network_service_endpoint.into_option());
            bounded(found.len(), "endpoints")?;
        }
        Ok(found)
    }

    /// The socket of an endpoint of the peer's node, which comes before the answer that names it,
    /// on the same connection. Where another one has taken that one's place, it is asked anew.
    async fn socket(
        hop: &Hop,
        name: &str,
        inode: InodeUrl,
        deadline: Instant,
    ) -> Result<OwnedFd, Error> {
        let descriptors = hop.peer.descriptors();
        match descriptors.recv(inode, Instant::now()).await {
            Err(DescriptorError::Missing(_)) => {}
            known => return Ok(known?),
        }
        Self::find(hop, named(name), deadline).await?;
        Ok(descriptors.recv(inode, Instant::now()).await?)
    }

    async fn try_to(
        hop: &Hop,
        mut endpoint: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<NetworkServiceEndpoint, Error> {
        Self::pass_socket(hop, &mut endpoint)?;
        let path = &mut Path::default();
        endpoints::register(&hop.peer, &hop.tokens, endpoint, path, deadline).await
    }

    /// Every service whose name is `name`; all of them where it is empty.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub async fn services(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Vec<NetworkService>, Error> {
        let hop = self.hop(deadline).await?;
        let mut query = NetworkServiceQuery::default();
        query.network_service.get_or_insert_default().name = name.to_owned();
        let mut answers = services::find(&hop.peer, &hop.tokens, query, deadline).await?;
        let mut found = Vec::new();
        while let Some(answer) = answers.next().await {
            found.extend(answer?.network_service.into_option());
            bounded(found.len(), "services")?;
        }
        Ok(found)
    }

    /// Every endpoint.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub async fn all_endpoints(
        &self,
        deadline: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error> {
        self.find_endpoints(NetworkServiceEndpoint::default(), deadline)
            .await
    }

    /// Takes a service back.
    ///
    /// # Errors
    /// Refused, or nobody answers.
    pub async fn unregister_service(
        &self,
        service: NetworkService,
        deadline: Instant,
    ) -> Result<(), Error> {
        let hop = self.hop(deadline).await?;
        services::unregister(
            &hop.peer,
            &hop.tokens,
            service,
            &mut Path::default(),
            deadline,
        )
        .await
    }

    /// A socket of ours goes to the peer as a descriptor, its URL as an inode.
    fn pass_socket(hop: &Hop, endpoint: &mut NetworkServiceEndpoint) -> Result<(), Error> {
        let EndpointUrl::Unix(path) = EndpointUrl::parse(&endpoint.url) else {
            return Ok(());
        };
        let refused = |error: &dyn std::fmt::Display| {
            let message = format!(
                "endpoint {}: passing its socket {path} on: {error}",
                endpoint.name
            );
            Error::new(Code::FailedPrecondition, message)
        };
        let socket = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| refused(&error))?;
        hop.peer
            .descriptors()
            .send(&socket)
            .map_err(|error| refused(&error))?;
        endpoint.url = inode_url(&socket)
            .map_err(|error| refused(&error))?
            .to_string();
        Ok(())
    }
}

#[async_trait]
impl Directory for Remote {
    async fn service(&self, name: &str, deadline: Instant) -> Result<NetworkService, Error> {
        let found = self.services(name, deadline).await?.into_iter().next();
        found.ok_or_else(|| unknown_service(name))
    }

    async fn endpoints(
        &self,
        service: &str,
        deadline: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error> {
        let wanted = NetworkServiceEndpoint {
            network_service_names: vec![service.to_owned()],
            ..Default::default()
        };
        self.find_endpoints(wanted, deadline).await
    }

    async fn endpoint(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<NetworkServiceEndpoint, Error> {
        let found = self.find_endpoints(named(name), deadline).await?;
        let first = found.into_iter().next();
        first.ok_or_else(|| unknown_endpoint(name))
    }

    async fn target(
        &self,
        endpoint: &NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Target, Error> {
        match EndpointUrl::parse(&endpoint.url) {
            EndpointUrl::Inode(inode) => {
                let hop = self.hop(deadline).await?;
                let socket = Self::socket(&hop, &endpoint.name, inode, deadline).await?;
                Ok(Target::Socket(inode, Arc::new(socket)))
            }
            url @ (EndpointUrl::Tcp { .. } | EndpointUrl::Unix(_)) => Ok(Target::Url(url)),
            EndpointUrl::Other(url) => {
                let message = format!(
                    "endpoint {}: nobody here can go to its URL {url:?}",
                    endpoint.name
                );
                Err(Error::new(Code::Unimplemented, message))
            }
        }
    }

    async fn changes(
        &self,
        service: &str,
        deadline: Instant,
    ) -> Result<BoxStream<'static, ()>, Error> {
        self.told(service, deadline).await
    }
}

impl Remote {
    async fn told(
        &self,
        service: &str,
        deadline: Instant,
    ) -> Result<BoxStream<'static, ()>, Error> {
        let source = RpcSource {
            transport: self.transport.clone(),
            target: self.target.clone(),
        };
        let of = NetworkService {
            name: service.to_owned(),
            ..Default::default()
        };
        let by = NetworkServiceEndpoint {
            network_service_names: vec![service.to_owned()],
            ..Default::default()
        };
        let services = source.watch_services(of, deadline).await?;
        let endpoints = source.watch_endpoints(by, deadline).await?;
        // Either's end is the end: what it would tell is missed from then on.
        let services = services.map(|answer| answer.is_ok()).chain(end());
        let endpoints = endpoints.map(|answer| answer.is_ok()).chain(end());
        let both = futures_util::stream::select(services, endpoints);
        Ok(both
            .take_while(|told| std::future::ready(*told))
            .map(|_| ())
            .boxed())
    }
}

fn end() -> impl futures_util::Stream<Item = bool> {
    futures_util::stream::iter([false])
}

/// What asks for the endpoint of a name.
fn named(name: &str) -> NetworkServiceEndpoint {
    NetworkServiceEndpoint {
        name: name.to_owned(),
        ..Default::default()
    }
}

/// Nothing is collected without an end.
fn bounded(found: usize, what: &str) -> Result<(), Error> {
    if found <= MAX_FOUND {
        return Ok(());
    }
    let message = format!("more than {MAX_FOUND} {what} match: ask for fewer");
    Err(Error::new(Code::ResourceExhausted, message))
}

/// The message of every role for a service that nobody defined.
#[must_use]
pub fn unknown_service(name: &str) -> Error {
    let message = format!(
        "network service {name:?} is not registered: define it (nsm apply -f) or start an endpoint of it"
    );
    Error::new(Code::NotFound, message)
}

/// The message of every role for an endpoint that is not registered.
#[must_use]
pub fn unknown_endpoint(name: &str) -> Error {
    let message = format!(
        "endpoint {name:?} is not registered, or no longer: ask for the service without naming one"
    );
    Error::new(Code::NotFound, message)
}

#[async_trait]
impl Registrar for Remote {
    async fn register(
        &self,
        endpoint: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<NetworkServiceEndpoint, Error> {
        let url = endpoint.url.clone();
        let mut hop = self.hop(deadline).await?;
        let mut answer = Self::try_to(&hop, endpoint.clone(), deadline).await;
        if hop.has_renewed(&answer) {
            hop = self.hop(deadline).await?;
            let name = endpoint.name.clone();
            answer = hop.at_last(&name, Self::try_to(&hop, endpoint, deadline).await);
        }
        let mut answer = answer?;
        answer.url = url;
        let mut registered = self
            .registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *registered = Some(hop.peer);
        Ok(answer)
    }

    async fn unregister(
        &self,
        endpoint: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<(), Error> {
        let hop = self.hop(deadline).await?;
        endpoints::unregister(
            &hop.peer,
            &hop.tokens,
            endpoint,
            &mut Path::default(),
            deadline,
        )
        .await
    }

    async fn register_service(
        &self,
        service: NetworkService,
        deadline: Instant,
    ) -> Result<NetworkService, Error> {
        let (name, payload) = (service.name.clone(), service.payload.clone());
        let ask = |hop: Hop, service| async move {
            let path = &mut Path::default();
            let made = services::register(&hop.peer, &hop.tokens, service, path, deadline).await;
            (hop.has_renewed(&made), made)
        };
        let (renewed, mut made) = ask(self.hop(deadline).await?, service.clone()).await;
        if renewed {
            made = ask(self.hop(deadline).await?, service).await.1;
        }
        let Err(refused) = made else { return made };
        if refused.code != Code::PermissionDenied {
            return Err(refused);
        }
        // Upstream's registry lets nobody but the first endpoint of a service register it
        // (sdk `registry/common/authorize/ns_server.go`). What is asked for is there then.
        match self.service(&name, deadline).await {
            Ok(found) if payload.is_empty() || found.payload == payload => Ok(found),
            _ => Err(refused),
        }
    }

    async fn lost(&self) {
        let peer = self
            .registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match peer {
            Some(peer) => peer.closed().await,
            None => std::future::pending().await,
        }
    }
}
