//! `drain`: an endpoint of this node that is emptied takes nobody new, and who is with it is asked
//! to go to another.
//!
//! *What it does*: an operator who unregisters an endpoint of this node with the label
//! [`DRAINING`] does not end it: new connections to it are refused from now on, so that whoever
//! asked tries the next endpoint, and every connection that it serves is shown as
//! RESELECT_REQUESTED, which sends its client to another endpoint if there is one. The label's
//! value `false` takes that back. A journal keeps it across restarts of the manager, also while the
//! endpoint is away: a node is drained until somebody says otherwise.
//! *Where it stands*: among registrations, after `relay`, which says that an operator asks, and
//! before `begin`, whose item stays; among connections after `begin`, whose store tells those that
//! are here from those that are new.
//! *On Close*: of a registration as said; connections close as ever.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use nsm_api::{
    connection::{Connection, State},
    networkservice::NetworkServiceRequest,
    registry::NetworkServiceEndpoint,
};
use nsm_chain::{
    Call, Code, Connections, Element, Endpoints, Error, Journal, Next, Record, elements::Table,
};
use nsm_registry::chain::Asker;

/// The label, of any service of an endpoint that an operator unregisters.
pub const DRAINING: &str = "nsm.io/draining";

/// The endpoints of a node that take nobody new; a clone is the same one.
#[derive(Clone, Default)]
pub struct Drained {
    names: Arc<Mutex<BTreeSet<String>>>,
    journal: Option<Arc<dyn Journal>>,
}

/// See the module.
#[derive(Clone)]
pub struct Drain {
    drained: Drained,
    table: Arc<dyn Table>,
}

/// In the store of a connection that was here before.
#[derive(Debug, Clone, Copy)]
struct Settled;

impl std::fmt::Debug for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Drain")
            .field(&*self.drained.names())
            .finish()
    }
}

impl std::fmt::Debug for Drained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Drained").field(&*self.names()).finish()
    }
}

impl Drained {
    /// Those that a journal names, and where changes are written down: a record is a name alone.
    #[must_use]
    pub fn journalled(
        journal: Option<Arc<dyn Journal>>,
        names: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            names: Arc::new(Mutex::new(names.into_iter().collect())),
            journal,
        }
    }

    fn names(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, endpoint: &str) -> bool {
        self.names().contains(endpoint)
    }

    fn insert(&self, endpoint: &str) {
        if self.names().insert(endpoint.to_owned())
            && let Some(journal) = &self.journal
        {
            journal.keep(endpoint, Vec::new());
        }
    }

    fn remove(&self, endpoint: &str) {
        if self.names().remove(endpoint)
            && let Some(journal) = &self.journal
        {
            journal.forget(endpoint);
        }
    }
}

impl Drain {
    /// The element; both of its places share what is drained.
    #[must_use]
    pub fn new(drained: Drained, table: Arc<dyn Table>) -> Self {
        Self { drained, table }
    }

    fn begin(&self, endpoint: &str) {
        self.drained.insert(endpoint);
        let served = self.table.served_by(endpoint);
        tracing::info!(endpoint, connections = served.len(), "draining");
        for connection in served {
            self.table.change(&connection.id, &mut |connection| {
                connection.state = State::RESELECT_REQUESTED.into();
                true
            });
        }
    }
}

/// What the label says, where it is there.
fn wanted(endpoint: &NetworkServiceEndpoint) -> Option<bool> {
    let mut labels = endpoint.network_service_labels.values();
    labels.find_map(|one| one.labels.get(DRAINING).map(|value| value == "true"))
}

#[async_trait]
impl Element<Endpoints> for Drain {
    fn name(&self) -> &'static str {
        "drain"
    }

    async fn request(
        &self,
        call: &mut Call,
        endpoint: NetworkServiceEndpoint,
        next: Next<Endpoints>,
    ) -> Result<NetworkServiceEndpoint, Error> {
        next.request(call, endpoint).await
    }

    async fn close(
        &self,
        call: &mut Call,
        endpoint: NetworkServiceEndpoint,
        next: Next<Endpoints>,
    ) -> Result<(), Error> {
        let operator = call.scratch.get() == Some(Asker { operator: true });
        match wanted(&endpoint).filter(|_| operator) {
            Some(true) => self.begin(&endpoint.name),
            Some(false) => self.drained.remove(&endpoint.name),
            None => return next.close(call, endpoint).await,
        }
        Ok(())
    }
}

#[async_trait]
impl Element<Connections> for Drain {
    fn name(&self) -> &'static str {
        "drain"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let endpoint = &request.connection.network_service_endpoint_name;
        if call.store.get::<Settled>().is_none() && self.drained.holds(endpoint) {
            let message =
                format!("endpoint {endpoint}: its node is being drained: it takes nobody new");
            return Err(Error::new(Code::Unavailable, message));
        }
        let connection = next.request(call, request).await?;
        call.store.put(Settled);
        Ok(connection)
    }

    async fn restore(
        &self,
        call: &mut Call,
        record: &Record<Connections>,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        call.store.put(Settled);
        next.restore(call, record).await
    }
}
