//! The registry's two gRPC services.

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use nsm_api::registry::{
    NetworkService, NetworkServiceEndpointQuery, NetworkServiceEndpointResponse,
    NetworkServiceQuery, NetworkServiceResponse,
};
use nsm_chain::{Call, Endpoints, Error, Services};
use nsm_rpc::{Answers, Find, Server};

use crate::{Record, Registry, chain, chain::Parts};

/// Answers Find from the index.
#[derive(Debug, Clone)]
pub struct Finder(pub Registry);

/// Adds both services of a registry to a server.
#[must_use]
pub fn serve(server: Server, parts: &Parts) -> Server {
    let finder = Finder(parts.registry.clone());
    server
        .services(chain::services(parts), finder.clone())
        .endpoints(chain::endpoints(parts), finder)
}

impl Finder {
    /// What matches now; with `watch`, then every change for as long as the stream is read.
    fn answers<R: Record, T: Send + 'static>(
        &self,
        query: R::Item,
        watch: bool,
        answer: fn(R::Item, bool) -> T,
    ) -> Result<Answers<T>, Error> {
        if !watch {
            let found = self.0.find::<R>(&query);
            return Ok(stream::iter(found)
                .map(move |item| Ok(answer((*item).clone(), false)))
                .boxed());
        }
        let events = self.0.watch::<R>(query)?.into_events();
        Ok(events
            .map(move |event| event.map(|event| answer((*event.item).clone(), event.deleted)))
            .boxed())
    }
}

#[async_trait]
impl Find<Services> for Finder {
    async fn find(
        &self,
        _: Call,
        query: NetworkServiceQuery,
    ) -> Result<Answers<NetworkServiceResponse>, Error> {
        let wanted: NetworkService = query.network_service.into_option().unwrap_or_default();
        self.answers::<Services, _>(wanted, query.watch, |service, deleted| {
            NetworkServiceResponse {
                network_service: buffa::MessageField::some(service),
                deleted,
                ..Default::default()
            }
        })
    }
}

#[async_trait]
impl Find<Endpoints> for Finder {
    async fn find(
        &self,
        _: Call,
        query: NetworkServiceEndpointQuery,
    ) -> Result<Answers<NetworkServiceEndpointResponse>, Error> {
        let wanted = query
            .network_service_endpoint
            .into_option()
            .unwrap_or_default();
        self.answers::<Endpoints, _>(wanted, query.watch, |endpoint, deleted| {
            NetworkServiceEndpointResponse {
                network_service_endpoint: buffa::MessageField::some(endpoint),
                deleted,
                ..Default::default()
            }
        })
    }
}
