//! A manager as its forwarder and its endpoints see it: looked up in, registered at.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use buffa::MessageField;
use futures_util::StreamExt as _;
use nsm_api::{
    connection::Path,
    registry::{
        NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointQuery, NetworkServiceQuery,
    },
};
use nsm_chain::{Chain, Code, Directory, Endpoints, Error, Kind, Registrar, Services, Target};
use nsm_model::url::EndpointUrl;
use nsm_registry::remote::{unknown_endpoint, unknown_service};
use nsm_rpc::{Find, Lookup};
use tokio::time::Instant;

use super::{End, Link, Served, hop::Wire};

/// See the module; a registry is seen the same way.
#[derive(Debug, Clone)]
pub struct ManagerEnd {
    end: End,
    target: Target,
    registered: Arc<Mutex<Option<Arc<Link>>>>,
}

/// A kind's list, and its finder.
pub(crate) type Both<K> = (Chain<K>, Arc<dyn Find<K>>);

/// A kind that is registered.
pub(crate) trait Registered: Lookup + Kind<Request = <Self as Kind>::Item> {
    fn chain(served: &Served) -> Option<Both<Self>>
    where
        Self: Sized;
}

impl Registered for Services {
    fn chain(served: &Served) -> Option<Both<Self>> {
        served.services.clone()
    }
}

impl Registered for Endpoints {
    fn chain(served: &Served) -> Option<Both<Self>> {
        served.endpoints.clone()
    }
}

fn parts<K: Registered>(served: &Served) -> Result<Both<K>, Error> {
    K::chain(served).ok_or_else(|| Error::new(Code::Unimplemented, "no registry here"))
}

/// Registers over a wire; the path goes with it and comes back.
pub(crate) async fn register<K: Registered>(
    wire: &Wire,
    item: K::Item,
    path: &mut Path,
    deadline: Instant,
) -> Result<K::Item, Error> {
    let (about, sent, own) = (K::id(&item).to_owned(), path.clone(), path.index);
    let work = |served: Arc<Served>, mut call: nsm_chain::Call| async move {
        call.path = sent;
        let (chain, _) = parts::<K>(&served)?;
        let answer = chain.request(&mut call, item).await?;
        Ok((answer, call.path))
    };
    let (answer, back) = wire.call("register", &about, deadline, work).await?;
    *path = back;
    path.index = own;
    Ok(answer)
}

/// Takes back over a wire.
pub(crate) async fn unregister<K: Registered>(
    wire: &Wire,
    item: K::Item,
    path: &Path,
    deadline: Instant,
) -> Result<(), Error> {
    let (about, sent) = (K::id(&item).to_owned(), path.clone());
    let work = |served: Arc<Served>, mut call: nsm_chain::Call| async move {
        call.path = sent;
        let (chain, _) = parts::<K>(&served)?;
        chain.close(&mut call, item).await
    };
    wire.call("unregister", &about, deadline, work).await
}

/// Finds over a wire: a stream of answers.
pub(crate) async fn find<K: Registered>(
    wire: &Wire,
    query: K::Query,
    deadline: Instant,
) -> Result<nsm_rpc::Answers<K::Found>, Error> {
    let work = |served: Arc<Served>, call: nsm_chain::Call| async move {
        let (_, finder) = parts::<K>(&served)?;
        finder.find(call, query).await
    };
    let answers = wire.call("find", K::NAME, deadline, work).await?;
    Ok(super::hop::delayed(wire.clone(), answers))
}

impl ManagerEnd {
    /// The manager at `target`.
    #[must_use]
    pub fn new(end: End, target: Target) -> Self {
        Self {
            end,
            target,
            registered: Arc::default(),
        }
    }

    async fn wire(&self, deadline: Instant) -> Result<Wire, Error> {
        self.end.wire(&self.target, deadline).await
    }

    async fn find_endpoints(
        &self,
        wanted: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error> {
        let query = NetworkServiceEndpointQuery {
            network_service_endpoint: MessageField::some(wanted),
            ..Default::default()
        };
        let mut answers = find::<Endpoints>(&self.wire(deadline).await?, query, deadline).await?;
        let mut found = Vec::new();
        while let Some(answer) = answers.next().await {
            found.extend(answer?.network_service_endpoint.into_option());
        }
        Ok(found)
    }
}

#[async_trait]
impl Directory for ManagerEnd {
    async fn service(&self, name: &str, deadline: Instant) -> Result<NetworkService, Error> {
        let wanted = NetworkService {
            name: name.to_owned(),
            ..Default::default()
        };
        let query = NetworkServiceQuery {
            network_service: MessageField::some(wanted),
            ..Default::default()
        };
        let mut answers = find::<Services>(&self.wire(deadline).await?, query, deadline).await?;
        let mut found = None;
        while let Some(answer) = answers.next().await {
            found = found.or(answer?.network_service.into_option());
        }
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
        let wanted = NetworkServiceEndpoint {
            name: name.to_owned(),
            ..Default::default()
        };
        let found = self.find_endpoints(wanted, deadline).await?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| unknown_endpoint(name))
    }

    async fn target(&self, endpoint: &NetworkServiceEndpoint, _: Instant) -> Result<Target, Error> {
        Ok(Target::Url(EndpointUrl::parse(&endpoint.url)))
    }
}

#[async_trait]
impl Registrar for ManagerEnd {
    async fn register(
        &self,
        endpoint: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<NetworkServiceEndpoint, Error> {
        let wire = self.wire(deadline).await?;
        let url = endpoint.url.clone();
        let path = &mut Path::default();
        let mut answer = register::<Endpoints>(&wire, endpoint, path, deadline).await?;
        answer.url = url;
        let mut registered = self
            .registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *registered = Some(wire.link);
        Ok(answer)
    }

    async fn unregister(
        &self,
        endpoint: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<(), Error> {
        let wire = self.wire(deadline).await?;
        unregister::<Endpoints>(&wire, endpoint, &Path::default(), deadline).await
    }

    async fn register_service(
        &self,
        service: NetworkService,
        deadline: Instant,
    ) -> Result<NetworkService, Error> {
        let wire = self.wire(deadline).await?;
        register::<Services>(&wire, service, &mut Path::default(), deadline).await
    }

    async fn lost(&self) {
        let link = self
            .registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match link {
            Some(link) => link.lost().await,
            None => std::future::pending().await,
        }
    }
}
