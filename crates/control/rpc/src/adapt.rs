//! The generated service traits, answered by chains.

use std::{pin::Pin, sync::Arc};

use buffa_types::google::protobuf::Empty;
use futures_util::{Stream, StreamExt as _};
use nsm_api::{
    connection::{Connection, ConnectionEvent, MonitorScopeSelector},
    networkservice::NetworkServiceRequest,
    registry::{
        NetworkService as Service, NetworkServiceEndpoint as Endpoint, NetworkServiceEndpointQuery,
        NetworkServiceEndpointResponse, NetworkServiceQuery, NetworkServiceResponse,
    },
};
use nsm_chain::{Chain, Connections, Endpoints, Error, Kind, Services};
use tonic::{Request, Response, Status, async_trait};

use crate::{
    generated::{
        endpoint_registry::network_service_endpoint_registry_server::NetworkServiceEndpointRegistry,
        monitor_connection::monitor_connection_server::MonitorConnection,
        network_service::network_service_server::NetworkService,
        service_registry::network_service_registry_server::NetworkServiceRegistry,
    },
    meta, seen,
    server::{Answers, Find, Lookup, Monitor, call_of, fenced},
    status::to_status,
};

type Statuses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn answer<T>(done: Result<T, Error>) -> Result<Response<T>, Status> {
    done.map(Response::new).map_err(|error| to_status(&error))
}

fn stream<T: 'static>(done: Result<Answers<T>, Error>) -> Result<Response<Statuses<T>>, Status> {
    let answers = done.map_err(|error| to_status(&error))?;
    Ok(Response::new(Box::pin(
        answers.map(|one| one.map_err(|error| to_status(&error))),
    )))
}

/// `networkservice.NetworkService`.
pub(crate) struct ConnectionService(pub(crate) Chain<Connections>);

#[async_trait]
impl NetworkService for ConnectionService {
    async fn request(
        &self,
        request: Request<NetworkServiceRequest>,
    ) -> Result<Response<Connection>, Status> {
        let mut call = call_of(&request)?;
        answer(fenced("Request", self.0.request(&mut call, request.into_inner())).await)
    }

    async fn close(&self, request: Request<Connection>) -> Result<Response<Empty>, Status> {
        let mut call = call_of(&request)?;
        let done = fenced("Close", self.0.close(&mut call, request.into_inner())).await;
        answer(done.map(|()| Empty::default()))
    }
}

/// `connection.MonitorConnection`.
pub(crate) struct MonitorService(pub(crate) Arc<dyn Monitor>);

#[async_trait]
impl MonitorConnection for MonitorService {
    type MonitorConnectionsStream = Statuses<ConnectionEvent>;

    async fn monitor_connections(
        &self,
        request: Request<MonitorScopeSelector>,
    ) -> Result<Response<Self::MonitorConnectionsStream>, Status> {
        let call = call_of(&request)?;
        stream(
            fenced(
                "MonitorConnections",
                self.0.watch(call, request.into_inner()),
            )
            .await,
        )
    }
}

/// Register: the path comes and goes in headers.
async fn register<K>(
    chain: &Chain<K>,
    request: Request<K::Item>,
) -> Result<Response<K::Item>, Status>
where
    K: Kind<Request = <K as Kind>::Item>,
{
    let mut call = call_of(&request)?;
    let path = meta::path(request.metadata()).map_err(|error| to_status(&error))?;
    call.path = path.unwrap_or_default();
    let done = fenced("Register", chain.request(&mut call, request.into_inner())).await;
    with_path(answer(done)?, &call.path)
}

async fn unregister<K: Kind>(
    chain: &Chain<K>,
    request: Request<K::Item>,
) -> Result<Response<Empty>, Status> {
    let mut call = call_of(&request)?;
    let path = meta::path(request.metadata()).map_err(|error| to_status(&error))?;
    call.path = path.unwrap_or_default();
    let done = fenced("Unregister", chain.close(&mut call, request.into_inner())).await;
    with_path(answer(done.map(|()| Empty::default()))?, &call.path)
}

fn with_path<T>(
    mut response: Response<T>,
    path: &nsm_api::connection::Path,
) -> Result<Response<T>, Status> {
    meta::put_path(response.metadata_mut(), path).map_err(|error| to_status(&error))?;
    Ok(response)
}

async fn find<K: Lookup>(
    find: &dyn Find<K>,
    request: Request<K::Query>,
) -> Result<Response<Statuses<K::Found>>, Status> {
    let call = call_of(&request)?;
    if let Some(seen) = seen::get(request.metadata()).map_err(|error| to_status(&error))? {
        call.scratch.put(seen);
    }
    let scratch = Arc::clone(&call.scratch);
    let mut answer = stream(fenced("Find", find.find(call, request.into_inner())).await)?;
    if scratch.take::<seen::Marked>().is_some() {
        seen::put(answer.metadata_mut(), seen::NOTHING).map_err(|error| to_status(&error))?;
    }
    Ok(answer)
}

/// `registry.NetworkServiceRegistry`.
pub(crate) struct ServiceService(
    pub(crate) Chain<Services>,
    pub(crate) Arc<dyn Find<Services>>,
);

#[async_trait]
impl NetworkServiceRegistry for ServiceService {
    type FindStream = Statuses<NetworkServiceResponse>;

    async fn register(&self, request: Request<Service>) -> Result<Response<Service>, Status> {
        register(&self.0, request).await
    }

    async fn find(
        &self,
        request: Request<NetworkServiceQuery>,
    ) -> Result<Response<Self::FindStream>, Status> {
        find(&*self.1, request).await
    }

    async fn unregister(&self, request: Request<Service>) -> Result<Response<Empty>, Status> {
        unregister(&self.0, request).await
    }
}

/// `registry.NetworkServiceEndpointRegistry`.
pub(crate) struct EndpointService(
    pub(crate) Chain<Endpoints>,
    pub(crate) Arc<dyn Find<Endpoints>>,
);

#[async_trait]
impl NetworkServiceEndpointRegistry for EndpointService {
    type FindStream = Statuses<NetworkServiceEndpointResponse>;

    async fn register(&self, request: Request<Endpoint>) -> Result<Response<Endpoint>, Status> {
        register(&self.0, request).await
    }

    async fn find(
        &self,
        request: Request<NetworkServiceEndpointQuery>,
    ) -> Result<Response<Self::FindStream>, Status> {
        find(&*self.1, request).await
    }

    async fn unregister(&self, request: Request<Endpoint>) -> Result<Response<Empty>, Status> {
        unregister(&self.0, request).await
    }
}
