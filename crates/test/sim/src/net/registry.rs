//! The registry as a manager sees it: its records copied, registrations passed on.

use async_trait::async_trait;
use buffa::MessageField;
use futures_util::TryStreamExt as _;
use nsm_api::registry::{
    NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointQuery,
    NetworkServiceEndpointResponse, NetworkServiceQuery, NetworkServiceResponse,
};
use nsm_chain::{Call, Element, Endpoints, Error, Next, Services, Target};
use nsm_registry::mirror::Source;
use nsm_rpc::Answers;
use tokio::time::Instant;

use super::{
    End,
    registrar::{Registered, find, register, unregister},
};

/// Where a manager's registrations go and its copy comes from: what the real one has of the same
/// name, over the run's wires.
#[derive(Debug, Clone)]
pub struct ToRegistry {
    end: End,
    target: Target,
}

impl ToRegistry {
    /// The registry at `target`.
    #[must_use]
    pub fn new(end: End, target: Target) -> Self {
        Self { end, target }
    }
}

#[async_trait]
impl<K: Registered> Element<K> for ToRegistry {
    fn name(&self) -> &'static str {
        "connect"
    }

    async fn request(&self, call: &mut Call, item: K::Item, _: Next<K>) -> Result<K::Item, Error> {
        let wire = self.end.wire(&self.target, call.deadline).await?;
        register::<K>(&wire, item, &mut call.path, call.deadline).await
    }

    async fn close(&self, call: &mut Call, item: K::Item, _: Next<K>) -> Result<(), Error> {
        // The end of a lease: the registry's copy ends by its own clock.
        if call.caller.is_none() {
            return Ok(());
        }
        let wire = self.end.wire(&self.target, call.deadline).await?;
        unregister::<K>(&wire, item, &call.path, call.deadline).await
    }
}

fn of_services(query: NetworkService, watch: bool) -> NetworkServiceQuery {
    NetworkServiceQuery {
        network_service: MessageField::some(query),
        watch,
        ..Default::default()
    }
}

fn of_endpoints(query: NetworkServiceEndpoint, watch: bool) -> NetworkServiceEndpointQuery {
    NetworkServiceEndpointQuery {
        network_service_endpoint: MessageField::some(query),
        watch,
        ..Default::default()
    }
}

#[async_trait]
impl Source for ToRegistry {
    async fn watch_services(
        &self,
        query: NetworkService,
        deadline: Instant,
    ) -> Result<Answers<NetworkServiceResponse>, Error> {
        let wire = self.end.wire(&self.target, deadline).await?;
        find::<Services>(&wire, of_services(query, true), deadline).await
    }

    async fn watch_endpoints(
        &self,
        query: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Answers<NetworkServiceEndpointResponse>, Error> {
        let wire = self.end.wire(&self.target, deadline).await?;
        find::<Endpoints>(&wire, of_endpoints(query, true), deadline).await
    }

    async fn find_services(
        &self,
        query: NetworkService,
        deadline: Instant,
    ) -> Result<Vec<NetworkService>, Error> {
        let wire = self.end.wire(&self.target, deadline).await?;
        let found = find::<Services>(&wire, of_services(query, false), deadline).await?;
        let found: Vec<_> = found.try_collect().await?;
        Ok(found
            .into_iter()
            .filter_map(|one| one.network_service.into_option())
            .collect())
    }

    async fn find_endpoints(
        &self,
        query: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error> {
        let wire = self.end.wire(&self.target, deadline).await?;
        let found = find::<Endpoints>(&wire, of_endpoints(query, false), deadline).await?;
        let found: Vec<_> = found.try_collect().await?;
        Ok(found
            .into_iter()
            .filter_map(|one| one.network_service_endpoint.into_option())
            .collect())
    }
}
