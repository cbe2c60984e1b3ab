//! What exists, as this node sees it: the registry's copy, with local endpoints as they are reached
//! here.

use std::sync::Arc;

use async_trait::async_trait;
use nsm_api::registry::{NetworkService, NetworkServiceEndpoint};
use nsm_chain::{Directory, Endpoints, Error, Services, Target};
use nsm_model::url::EndpointUrl;
use nsm_registry::{
    mirror::Mirror,
    remote::{unknown_endpoint, unknown_service},
};
use tokio::time::Instant;

use crate::Locals;

/// See the module.
#[derive(Debug, Clone)]
pub struct View {
    mirror: Mirror,
    locals: Arc<Locals>,
    own_url: String,
}

impl View {
    /// The view of the manager whose own URL is in what it registers.
    #[must_use]
    pub fn new(mirror: Mirror, locals: Arc<Locals>, own_url: impl Into<String>) -> Self {
        Self {
            mirror,
            locals,
            own_url: own_url.into(),
        }
    }

    /// The copy of the registry.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// An endpoint as it is reached here: a local one by its own URL. One that carries our URL and
    /// is not known here any more is nobody (upstream `localbypass` hides it as well).
    #[must_use]
    pub fn seen(&self, endpoint: &NetworkServiceEndpoint) -> Option<NetworkServiceEndpoint> {
        if endpoint.url != self.own_url {
            return Some(endpoint.clone());
        }
        let local = self.locals.get(&endpoint.name)?;
        let mut seen = endpoint.clone();
        seen.url = local.endpoint.url;
        Some(seen)
    }

    /// Waits, shortly after a start, for what was local before it.
    pub(crate) async fn returned(&self, deadline: Instant) {
        self.locals.returned(deadline).await;
    }

    /// Changes whenever an endpoint of this node has registered.
    pub(crate) fn came(&self) -> tokio::sync::watch::Receiver<()> {
        self.locals.came()
    }

    /// The local endpoint of this name.
    #[must_use]
    pub fn local(&self, name: &str) -> Option<crate::Local> {
        self.locals.get(name)
    }
}

#[async_trait]
impl Directory for View {
    async fn service(&self, name: &str, deadline: Instant) -> Result<NetworkService, Error> {
        if let Some(service) = self.mirror.service(name) {
            return Ok(NetworkService::clone(&service));
        }
        let query = NetworkService {
            name: name.to_owned(),
            ..Default::default()
        };
        let found = self
            .mirror
            .find_through::<Services>(query, deadline)
            .await?;
        let found = found.first().map(|service| NetworkService::clone(service));
        found.ok_or_else(|| unknown_service(name))
    }

    /// Forwarders, which a manager's own list asks for: only this node's can reach its workloads.
    async fn endpoints(
        &self,
        service: &str,
        _: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error> {
        let local = self.locals.offering(service);
        Ok(local.into_iter().map(|local| local.endpoint).collect())
    }

    async fn endpoint(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<NetworkServiceEndpoint, Error> {
        if let Some(local) = self.locals.get(name) {
            return Ok(local.endpoint);
        }
        let query = NetworkServiceEndpoint {
            name: name.to_owned(),
            ..Default::default()
        };
        let found = self
            .mirror
            .find_through::<Endpoints>(query, deadline)
            .await?;
        let seen = found.iter().find_map(|endpoint| self.seen(endpoint));
        seen.ok_or_else(|| unknown_endpoint(name))
    }

    async fn target(
        &self,
        endpoint: &NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Target, Error> {
        self.returned(deadline).await;
        match self.locals.get(&endpoint.name) {
            Some(local) => local.target(),
            None => Ok(Target::Url(EndpointUrl::parse(&endpoint.url))),
        }
    }
}
