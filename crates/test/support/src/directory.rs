//! A directory that is a book.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream::BoxStream};
use nsm_api::registry::{NetworkService, NetworkServiceEndpoint, NetworkServiceLabels};
use nsm_chain::{Code, Directory, Error, Target};
use nsm_model::url::EndpointUrl;
use tokio::time::Instant;

/// What exists, written by the test.
#[derive(Debug, Default)]
pub struct Book(Mutex<Pages>, tokio::sync::watch::Sender<()>);

#[derive(Debug, Default)]
struct Pages {
    services: BTreeMap<String, NetworkService>,
    endpoints: BTreeMap<String, NetworkServiceEndpoint>,
}

/// A service without matches: every endpoint serves it.
#[must_use]
pub fn service(name: &str) -> NetworkService {
    NetworkService {
        name: name.to_owned(),
        payload: "ETHERNET".to_owned(),
        ..Default::default()
    }
}

/// An endpoint of one service at a URL, with labels such as `a=b`.
#[must_use]
pub fn endpoint(name: &str, service: &str, url: &str, labels: &[&str]) -> NetworkServiceEndpoint {
    let pairs = labels.iter().map(|label| label.split_once('=').unwrap());
    let labels = NetworkServiceLabels {
        labels: pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        ..Default::default()
    };
    NetworkServiceEndpoint {
        name: name.to_owned(),
        network_service_names: vec![service.to_owned()],
        network_service_labels: [(service.to_owned(), labels)].into(),
        url: url.to_owned(),
        ..Default::default()
    }
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a service.
    pub fn add_service(&self, service: NetworkService) {
        self.pages().services.insert(service.name.clone(), service);
        self.1.send_replace(());
    }

    /// Writes an endpoint.
    pub fn add(&self, endpoint: NetworkServiceEndpoint) {
        self.pages()
            .endpoints
            .insert(endpoint.name.clone(), endpoint);
        self.1.send_replace(());
    }

    /// Strikes an endpoint out.
    pub fn strike(&self, name: &str) {
        self.pages().endpoints.remove(name);
        self.1.send_replace(());
    }
}

fn unknown(what: &str, name: &str) -> Error {
    Error::new(Code::NotFound, format!("{what} {name:?} is not registered"))
}

#[async_trait]
impl Directory for Book {
    async fn service(&self, name: &str, _: Instant) -> Result<NetworkService, Error> {
        let found = self.pages().services.get(name).cloned();
        found.ok_or_else(|| unknown("network service", name))
    }

    async fn endpoints(
        &self,
        service: &str,
        _: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error> {
        let pages = self.pages();
        let offers = |one: &&NetworkServiceEndpoint| {
            one.network_service_names.iter().any(|name| name == service)
        };
        Ok(pages.endpoints.values().filter(offers).cloned().collect())
    }

    async fn endpoint(&self, name: &str, _: Instant) -> Result<NetworkServiceEndpoint, Error> {
        let found = self.pages().endpoints.get(name).cloned();
        found.ok_or_else(|| unknown("endpoint", name))
    }

    async fn target(&self, endpoint: &NetworkServiceEndpoint, _: Instant) -> Result<Target, Error> {
        Ok(Target::Url(EndpointUrl::parse(&endpoint.url)))
    }

    async fn changes(&self, _: &str, _: Instant) -> Result<BoxStream<'static, ()>, Error> {
        let turns = futures_util::stream::unfold(self.1.subscribe(), |mut turned| async move {
            turned.changed().await.ok()?;
            Some(((), turned))
        });
        Ok(turns.boxed())
    }
}
