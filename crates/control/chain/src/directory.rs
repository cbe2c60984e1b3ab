//! What exists, as a role asks for it.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use nsm_api::registry::{NetworkService, NetworkServiceEndpoint};
use tokio::time::Instant;

use crate::{Code, Error, Target};

/// Looks up services and endpoints.
#[async_trait]
pub trait Directory: Send + Sync {
    /// The service with this name.
    ///
    /// # Errors
    /// The registry cannot be asked; `NotFound` names the service.
    async fn service(&self, name: &str, deadline: Instant) -> Result<NetworkService, Error>;

    /// The endpoints that offer a service, expired ones included.
    ///
    /// # Errors
    /// The registry cannot be asked.
    async fn endpoints(
        &self,
        service: &str,
        deadline: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error>;

    /// The endpoint with this name.
    ///
    /// # Errors
    /// The registry cannot be asked; `NotFound` names the endpoint.
    async fn endpoint(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<NetworkServiceEndpoint, Error>;

    /// Where an endpoint that this directory named is reached.
    ///
    /// # Errors
    /// Its URL is none that this process can go to, or its socket's descriptor did not come.
    async fn target(
        &self,
        endpoint: &NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Target, Error>;

    /// Tells of every change of a service or its endpoints, and at first of what there is; ends
    /// when it can tell no more. The deadline is for its beginning.
    ///
    /// # Errors
    /// The registry cannot be asked, or this directory cannot tell.
    async fn changes(&self, service: &str, _: Instant) -> Result<BoxStream<'static, ()>, Error> {
        let message = format!("network service {service:?}: its changes are not told here");
        Err(Error::new(Code::Unimplemented, message))
    }
}

/// Registers what a process offers, at its node's manager or at a registry.
#[async_trait]
pub trait Registrar: Send + Sync {
    /// Registers an endpoint; a `unix://` URL is that of a socket which the registrar passes on.
    ///
    /// # Errors
    /// Refused, or nobody answers.
    async fn register(
        &self,
        endpoint: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<NetworkServiceEndpoint, Error>;

    /// Takes an endpoint back.
    ///
    /// # Errors
    /// Refused, or nobody answers.
    async fn unregister(
        &self,
        endpoint: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<(), Error>;

    /// Registers a service.
    ///
    /// # Errors
    /// Refused, or nobody answers.
    async fn register_service(
        &self,
        service: NetworkService,
        deadline: Instant,
    ) -> Result<NetworkService, Error>;

    /// Ends when whoever was registered with is gone: everything must be registered again.
    async fn lost(&self);
}
