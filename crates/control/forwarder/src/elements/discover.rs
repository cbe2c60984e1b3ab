//! `discover`: which endpoints may serve a connection, best first.
//!
//! *What it does*: sdk `pkg/networkservice/common/discover`: looks the service and its endpoints
//! up, matches them with the connection's labels (`nsm_model::select`), and takes the payload from
//! the service. An endpoint that the request names is the only candidate, unless it was selected
//! here and no longer fits.
//! *Where it stands*: after `recvfd`; before `roundrobin`, which tries the candidates.
//! *On Close*: nothing.

use std::{collections::BTreeSet, sync::Arc, time::UNIX_EPOCH};

use async_trait::async_trait;
use nsm_api::{
    connection::{Connection, State},
    networkservice::NetworkServiceRequest,
    registry::NetworkServiceEndpoint,
};
use nsm_chain::{
    Call, Code, Connections, Directory, Element, Error, Kept, Next, Tokens, elements::Own,
};
use nsm_model::select;
use serde::{Deserialize, Serialize};

use super::mechanismtranslation::Far;
use crate::moves::{Moves, Selected, Shunned, Unfit};

/// How many failed endpoints of one connection are put last: more than anybody has replicas.
const MAX_FAILED: usize = 32;

/// The endpoints to try, best first, and after how many of the service's matches each comes.
#[derive(Debug, Clone, Default)]
pub struct Candidates(pub Vec<(NetworkServiceEndpoint, usize)>);

/// Endpoints that this connection has been moved away from, the last one last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Failed(Vec<String>);

impl Kept for Failed {
    const NAME: &'static str = "discover";
}

/// The endpoint that serves this connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Chosen(pub(crate) String);

impl Kept for Chosen {
    const NAME: &'static str = "roundrobin";
}

/// See the module.
pub struct Discover {
    directory: Arc<dyn Directory>,
    tokens: Arc<dyn Tokens>,
    moves: Option<Arc<Moves>>,
}

impl std::fmt::Debug for Discover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Discover")
    }
}

impl Discover {
    /// The element.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>, tokens: Arc<dyn Tokens>) -> Self {
        Self {
            directory,
            tokens,
            moves: None,
        }
    }

    /// The same; what is selected here is judged again when its service changes.
    pub(crate) fn watching(self, moves: Arc<Moves>) -> Self {
        Self {
            moves: Some(moves),
            ..self
        }
    }

    /// Remembers who selected the endpoint.
    fn selects(&self, call: &Call, connection: &Connection) {
        let by_labels = connection.network_service_endpoint_name.is_empty();
        if by_labels && call.store.kept::<Selected>().is_none() {
            call.store.keep(Selected {});
        }
        if let Some(moves) = &self.moves
            && call.store.kept::<Selected>().is_some()
        {
            moves.follow(&connection.network_service);
        }
    }

    async fn candidates(
        &self,
        call: &Call,
        connection: &mut Connection,
    ) -> Result<Candidates, Error> {
        let name = connection.network_service.clone();
        if name.is_empty() {
            let message = format!(
                "connection {}: network_service is empty: name the service",
                connection.id
            );
            return Err(Error::new(Code::InvalidArgument, message));
        }
        let wanted = connection.network_service_endpoint_name.clone();
        if !wanted.is_empty() {
            let (service, endpoint) = tokio::join!(
                self.directory.service(&name, call.deadline),
                self.directory.endpoint(&wanted, call.deadline),
            );
            let endpoint = endpoint?;
            if !endpoint.network_service_names.contains(&name) {
                return Err(offers_not(connection, &endpoint));
            }
            connection.payload = service?.payload;
            return Ok(Candidates(vec![(endpoint, 0)]));
        }
        let (service, endpoints) = tokio::join!(
            self.directory.service(&name, call.deadline),
            self.directory.endpoints(&name, call.deadline),
        );
        let (service, endpoints) = (service?, endpoints?);
        let now = self
            .tokens
            .now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let key = Own::of(call)?.key.digest();
        let failed = call.store.kept::<Failed>().unwrap_or_default();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let mut found = select::candidates(
            &connection.labels,
            &service,
            &endpoints,
            now,
            &key,
            &failed.0,
        );
        // Of those that have failed the one that did so last is the last.
        found.sort_by_key(|candidate| {
            let name = &candidate.endpoint.name;
            let at = failed.0.iter().position(|known| known == name);
            at.map_or(0, |at| at + 1)
        });
        if found.is_empty() {
            return Err(nothing_matches(connection, endpoints.len()));
        }
        connection.payload = service.payload;
        Ok(Candidates(
            found
                .into_iter()
                .map(|candidate| (candidate.endpoint.clone(), candidate.tier))
                .collect(),
        ))
    }
}

/// Who may be a client of one service may not be one of another by naming its endpoint.
fn offers_not(connection: &Connection, endpoint: &NetworkServiceEndpoint) -> Error {
    let message = format!(
        "connection {}: endpoint {:?} does not offer network service {:?}, it offers {:?}",
        connection.id, endpoint.name, connection.network_service, endpoint.network_service_names
    );
    Error::new(Code::FailedPrecondition, message)
}

fn nothing_matches(connection: &Connection, registered: usize) -> Error {
    let service = &connection.network_service;
    let labels = &connection.labels;
    let message = match registered {
        0 => format!("network service {service:?}: no endpoint is registered for it; start one"),
        _ => format!(
            "network service {service:?}: none of its {registered} endpoints matches a connection with labels \
             {labels:?}; compare its matches (nsm get services -o yaml) with the endpoints' labels"
        ),
    };
    Error::new(Code::NotFound, message)
}

/// The endpoint that failed is put last from now on, and no longer asked for by name.
fn reselect(call: &Call, connection: &mut Connection) {
    let named = std::mem::take(&mut connection.network_service_endpoint_name);
    let chosen = call.store.take_kept::<Chosen>().map(|chosen| chosen.0);
    let mut failed = call.store.kept::<Failed>().unwrap_or_default();
    let mut shunned = call.store.get::<Shunned>().unwrap_or_default();
    let names = BTreeSet::from_iter(chosen.into_iter().chain([named]));
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        shunned.add(&name);
        failed.0.retain(|known| *known != name);
        failed.0.push(name);
    }
    let surplus = failed.0.len().saturating_sub(MAX_FAILED);
    failed.0.drain(..surplus);
    call.store.keep(failed);
    call.store.put(shunned);
    forget_choice(call, connection);
}

/// What is registered has changed: everybody is asked in the order of the rules, also who failed
/// before; the one that serves until then has not.
fn choose_anew(call: &Call, connection: &mut Connection) {
    connection.network_service_endpoint_name.clear();
    call.store.take_kept::<Failed>();
    forget_choice(call, connection);
}

/// Whoever comes next negotiates anew, and is not asked to choose as well.
fn forget_choice(call: &Call, connection: &mut Connection) {
    call.store.take_kept::<Far>();
    connection.state = State::UP.into();
}

#[async_trait]
impl Element<Connections> for Discover {
    fn name(&self) -> &'static str {
        "discover"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let connection = request.connection.get_or_insert_default();
        let unfit = call.store.take::<Unfit>().is_some();
        if connection.state == State::RESELECT_REQUESTED {
            reselect(call, connection);
        } else if unfit {
            choose_anew(call, connection);
        }
        let candidates = self.candidates(call, connection).await?;
        // A name that nobody registered is followed for nobody.
        self.selects(call, connection);
        call.scratch.put(candidates);
        next.request(call, request).await
    }
}
