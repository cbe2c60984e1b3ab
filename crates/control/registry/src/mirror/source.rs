//! Where a mirror's records come from.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use nsm_api::registry::{
    NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointQuery,
    NetworkServiceEndpointResponse, NetworkServiceQuery, NetworkServiceResponse,
};
use nsm_chain::{Endpoints, Error, Services, Target};
use nsm_rpc::{Answers, Hop, Transport, client};
use tokio::time::Instant;

use super::{Side, Sides};
use crate::Record;

/// A watch of everything, as its registry began it.
pub struct Followed<T> {
    /// The answers: what there is, or what changed since; then every change.
    pub answers: Answers<T>,
    /// Whether marks come with them. Without, it is everything, and nobody says where that ends.
    pub marked: bool,
}

impl<T> std::fmt::Debug for Followed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Followed(marked: {})", self.marked)
    }
}

impl<T> Followed<T> {
    fn whole(answers: Answers<T>) -> Self {
        Self {
            answers,
            marked: false,
        }
    }
}

/// A registry as its mirror sees it. A watch's deadline is for its beginning alone.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// What matches now and every change.
    async fn watch_services(
        &self,
        query: NetworkService,
        deadline: Instant,
    ) -> Result<Answers<NetworkServiceResponse>, Error>;
    /// What matches now and every change.
    async fn watch_endpoints(
        &self,
        query: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Answers<NetworkServiceEndpointResponse>, Error>;
    /// Everything, or what changed since `seen`, and every change.
    async fn follow_services(
        &self,
        _seen: &str,
        deadline: Instant,
    ) -> Result<Followed<NetworkServiceResponse>, Error> {
        let all = NetworkService::default();
        Ok(Followed::whole(self.watch_services(all, deadline).await?))
    }
    /// Everything, or what changed since `seen`, and every change.
    async fn follow_endpoints(
        &self,
        _seen: &str,
        deadline: Instant,
    ) -> Result<Followed<NetworkServiceEndpointResponse>, Error> {
        let all = NetworkServiceEndpoint::default();
        Ok(Followed::whole(self.watch_endpoints(all, deadline).await?))
    }
    /// What matches now.
    async fn find_services(
        &self,
        query: NetworkService,
        deadline: Instant,
    ) -> Result<Vec<NetworkService>, Error>;
    /// What matches now.
    async fn find_endpoints(
        &self,
        query: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error>;
}

/// A kind of record as a source has it.
#[async_trait]
pub trait Sourced: Record {
    /// What a watch answers with.
    type Found: Send + 'static;
    /// Begins a watch of everything, by who has seen this much of it.
    async fn follow(
        source: &dyn Source,
        seen: &str,
        deadline: Instant,
    ) -> Result<Followed<Self::Found>, Error>;
    /// Lists what matches.
    async fn list(
        source: &dyn Source,
        query: Self::Item,
        deadline: Instant,
    ) -> Result<Vec<Self::Item>, Error>;
    /// A change, and whether it is a deletion; `None` if the answer holds no record.
    fn change(found: Self::Found) -> Option<(Self::Item, bool)>;
    /// Its part of a mirror.
    #[doc(hidden)]
    fn side<'a>(sides: &Sides<'a>) -> &'a Arc<Side<Self>>
    where
        Self: Sized;
}

#[async_trait]
impl Sourced for Services {
    type Found = NetworkServiceResponse;

    async fn follow(
        source: &dyn Source,
        seen: &str,
        deadline: Instant,
    ) -> Result<Followed<Self::Found>, Error> {
        source.follow_services(seen, deadline).await
    }

    async fn list(
        source: &dyn Source,
        query: NetworkService,
        deadline: Instant,
    ) -> Result<Vec<NetworkService>, Error> {
        source.find_services(query, deadline).await
    }

    fn change(found: NetworkServiceResponse) -> Option<(NetworkService, bool)> {
        Some((found.network_service.into_option()?, found.deleted))
    }

    fn side<'a>(sides: &Sides<'a>) -> &'a Arc<Side<Self>> {
        sides.services()
    }
}

#[async_trait]
impl Sourced for Endpoints {
    type Found = NetworkServiceEndpointResponse;

    async fn follow(
        source: &dyn Source,
        seen: &str,
        deadline: Instant,
    ) -> Result<Followed<Self::Found>, Error> {
        source.follow_endpoints(seen, deadline).await
    }

    async fn list(
        source: &dyn Source,
        query: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error> {
        source.find_endpoints(query, deadline).await
    }

    fn change(found: NetworkServiceEndpointResponse) -> Option<(NetworkServiceEndpoint, bool)> {
        Some((found.network_service_endpoint.into_option()?, found.deleted))
    }

    fn side<'a>(sides: &Sides<'a>) -> &'a Arc<Side<Self>> {
        sides.endpoints()
    }
}

/// A registry at an address.
#[derive(Debug, Clone)]
pub struct RpcSource {
    /// The way there, and who must answer.
    pub transport: Transport,
    /// Where the registry is.
    pub target: Target,
}

impl RpcSource {
    async fn hop(&self, deadline: Instant) -> Result<Hop, Error> {
        self.transport.hop(&self.target, deadline).await
    }
}

fn services(query: NetworkService, watch: bool) -> NetworkServiceQuery {
    NetworkServiceQuery {
        network_service: buffa::MessageField::some(query),
        watch,
        ..Default::default()
    }
}

fn endpoints(query: NetworkServiceEndpoint, watch: bool) -> NetworkServiceEndpointQuery {
    NetworkServiceEndpointQuery {
        network_service_endpoint: buffa::MessageField::some(query),
        watch,
        ..Default::default()
    }
}

#[async_trait]
impl Source for RpcSource {
    async fn watch_services(
        &self,
        query: NetworkService,
        deadline: Instant,
    ) -> Result<Answers<NetworkServiceResponse>, Error> {
        let Hop { peer, tokens } = self.hop(deadline).await?;
        Ok(
            client::services::find(&peer, &tokens, services(query, true), deadline)
                .await?
                .boxed(),
        )
    }

    async fn watch_endpoints(
        &self,
        query: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Answers<NetworkServiceEndpointResponse>, Error> {
        let Hop { peer, tokens } = self.hop(deadline).await?;
        Ok(
            client::endpoints::find(&peer, &tokens, endpoints(query, true), deadline)
                .await?
                .boxed(),
        )
    }

    async fn follow_services(
        &self,
        seen: &str,
        deadline: Instant,
    ) -> Result<Followed<NetworkServiceResponse>, Error> {
        let Hop { peer, tokens } = self.hop(deadline).await?;
        let all = services(NetworkService::default(), true);
        let (answers, marked) =
            client::services::follow(&peer, &tokens, all, seen, deadline).await?;
        Ok(Followed {
            answers: answers.boxed(),
            marked,
        })
    }

    async fn find_services(
        &self,
        query: NetworkService,
        deadline: Instant,
    ) -> Result<Vec<NetworkService>, Error> {
        let Hop { peer, tokens } = self.hop(deadline).await?;
        let found =
            client::services::find(&peer, &tokens, services(query, false), deadline).await?;
        let found: Vec<_> = found.try_collect().await?;
        Ok(found
            .into_iter()
            .filter_map(|found| found.network_service.into_option())
            .collect())
    }

    async fn follow_endpoints(
        &self,
        seen: &str,
        deadline: Instant,
    ) -> Result<Followed<NetworkServiceEndpointResponse>, Error> {
        let Hop { peer, tokens } = self.hop(deadline).await?;
        let all = endpoints(NetworkServiceEndpoint::default(), true);
        let (answers, marked) =
            client::endpoints::follow(&peer, &tokens, all, seen, deadline).await?;
        Ok(Followed {
            answers: answers.boxed(),
            marked,
        })
    }

    async fn find_endpoints(
        &self,
        query: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error> {
        let Hop { peer, tokens } = self.hop(deadline).await?;
        let found =
            client::endpoints::find(&peer, &tokens, endpoints(query, false), deadline).await?;
        let found: Vec<_> = found.try_collect().await?;
        Ok(found
            .into_iter()
            .filter_map(|found| found.network_service_endpoint.into_option())
            .collect())
    }
}
