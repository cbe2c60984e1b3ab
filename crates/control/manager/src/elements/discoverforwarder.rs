//! `discoverforwarder`: which forwarder of this node carries a connection.
//!
//! *What it does*: sdk `pkg/networkservice/common/discoverforwarder`: of the forwarders that
//! registered here, the ones that the service's matches allow by their labels, the one that
//! carries the connection already first; the next one is asked where one is away.
//! *Where it stands*: after `clientinfo`, whose labels the matches may name; before `connect`.
//! *On Close*: `connect` knows where the connection went; a restarted manager takes it from the
//! path. Of what was being asked for when a manager was killed there is no more than the client's
//! word: it is closed at whichever forwarder may have it.

use std::sync::Arc;

use async_trait::async_trait;
use nsm_api::{
    connection::Connection,
    networkservice::NetworkServiceRequest,
    registry::{NetworkService, NetworkServiceEndpoint},
};
use nsm_chain::{
    Call, Code, Connections, Directory, Element, Error, Expected, Kept, Next, Record,
    elements::{Downstream, Resolve},
};
use nsm_model::{path, select};
use serde::{Deserialize, Serialize};

/// What nobody here knows may stand at a forwarder that is away.
const NOBODY_TO_CLOSE: &str = "no forwarder has registered with this node's manager: one that had the connection \
                               before ends it when it is back";

/// The forwarder that carries this connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Chosen(String);

impl Kept for Chosen {
    const NAME: &'static str = "discoverforwarder";
}

/// See the module.
pub struct DiscoverForwarder {
    directory: Arc<dyn Directory>,
    service: String,
    expected: Expected,
}

impl std::fmt::Debug for DiscoverForwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DiscoverForwarder({})", self.service)
    }
}

impl DiscoverForwarder {
    /// The element; forwarders register under the name `service`, and answer as `expected`.
    #[must_use]
    pub fn new(
        directory: Arc<dyn Directory>,
        service: impl Into<String>,
        expected: Expected,
    ) -> Self {
        Self {
            directory,
            service: service.into(),
            expected,
        }
    }

    /// Finds a forwarder by its name.
    pub(crate) fn resolve(&self, name: String) -> Resolve {
        let expected = self.expected.clone();
        Resolve::endpoint(self.directory.clone(), name, move |_| expected.clone())
    }

    /// This node's forwarders; none where that cannot be said.
    async fn names(&self, call: &Call) -> Vec<String> {
        let all = self.directory.endpoints(&self.service, call.deadline).await;
        let all = all.unwrap_or_default().into_iter();
        all.map(|forwarder| forwarder.name).collect()
    }

    async fn forwarders(
        &self,
        call: &Call,
        connection: &Connection,
    ) -> Result<Vec<NetworkServiceEndpoint>, Error> {
        let (service, all) = tokio::join!(
            self.directory
                .service(&connection.network_service, call.deadline),
            self.directory.endpoints(&self.service, call.deadline),
        );
        let (service, all) = (service?, all?);
        if all.is_empty() {
            let message =
                "no forwarder has registered with this node's manager: start `nsm forwarder` here";
            return Err(Error::new(Code::Unavailable, message));
        }
        let mut fit: Vec<_> = select::forwarders(&connection.labels, &service, &all, &self.service)
            .into_iter()
            .cloned()
            .collect();
        if !select::applies(&connection.labels, &service) {
            return Err(no_match(connection, &service));
        }
        if fit.is_empty() {
            let message = format!(
                "network service {:?}: none of this node's {} forwarders has the labels that its matches ask for",
                connection.network_service,
                all.len()
            );
            return Err(Error::new(Code::FailedPrecondition, message));
        }
        let before = call.store.kept::<Chosen>().map(|chosen| chosen.0);
        let before =
            before.or_else(|| path::next(&connection.path).map(|segment| segment.name.clone()));
        fit.sort_by_key(|forwarder| Some(&forwarder.name) != before.as_ref());
        Ok(fit)
    }
}

/// Upstream carries such a connection nowhere either.
fn no_match(connection: &Connection, service: &NetworkService) -> Error {
    let message = format!(
        "network service {:?}: none of its {} matches fits a connection with labels {:?}; compare its matches \
         (nsm get services -o yaml) with the labels that are asked with",
        connection.network_service,
        service.matches.len(),
        connection.labels
    );
    Error::new(Code::NotFound, message)
}

#[async_trait]
impl Element<Connections> for DiscoverForwarder {
    fn name(&self) -> &'static str {
        "discoverforwarder"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let mut first_cause = None;
        call.scratch.put(self.expected.clone());
        for forwarder in self.forwarders(call, &request.connection).await? {
            let answer = match self.directory.target(&forwarder, call.deadline).await {
                Ok(target) => {
                    call.scratch.put(target);
                    call.scratch.put(self.resolve(forwarder.name.clone()));
                    next.request(call, request.clone()).await
                }
                Err(error) => Err(error),
            };
            match answer {
                Ok(connection) => {
                    call.store.keep(Chosen(forwarder.name));
                    return Ok(connection);
                }
                // Only one that is away leaves anything for another to do.
                Err(error) if error.code != Code::Unavailable => return Err(error),
                Err(error) => {
                    tracing::info!(forwarder = forwarder.name, %error, "forwarder away");
                    first_cause.get_or_insert(error);
                }
            }
        }
        Err(first_cause.unwrap_or_else(|| Error::new(Code::Unavailable, "no forwarder to try")))
    }

    async fn close(
        &self,
        call: &mut Call,
        connection: Connection,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        if call.store.get::<Downstream>().is_some() {
            return next.close(call, connection).await;
        }
        let names = match path::next(&connection.path) {
            Some(segment) => vec![segment.name.clone()],
            None => self.names(call).await,
        };
        let mut errors = Vec::new();
        if names.is_empty() {
            errors.push(Error::new(Code::Unavailable, NOBODY_TO_CLOSE));
            errors.extend(next.close(call, connection.clone()).await.err());
        }
        for name in names {
            // One that has not registered again yet is owed the close.
            call.scratch.put(self.resolve(name).waiting());
            errors.extend(next.close(call, connection.clone()).await.err());
        }
        Error::join(errors).map_or(Ok(()), Err)
    }

    async fn restore(
        &self,
        call: &mut Call,
        record: &Record<Connections>,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        if let Some(Chosen(name)) = call.store.kept() {
            call.scratch.put(self.resolve(name));
        }
        next.restore(call, record).await
    }
}
