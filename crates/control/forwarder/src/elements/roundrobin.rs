//! `roundrobin`: tries the candidates in turn until one accepts.
//!
//! *What it does*: sdk `pkg/networkservice/common/roundrobin`, where the turn is by a global
//! counter. Here the order is `discover`'s, by weight and the connection's own key, so that a retry
//! goes to the same endpoint.
//! Where a match of the service falls through, those of the next one are asked if nobody is there
//! of those before: one that is there and refuses is not gone round.
//! Who answers must be the endpoint's owner, or the manager of its node.
//! *Where it stands*: after `xconnect`; before the elements that speak to one next hop.
//! *On Close*: nothing; `connect` knows where the connection went.

use std::sync::Arc;

use async_trait::async_trait;
use nsm_api::{
    connection::Connection, networkservice::NetworkServiceRequest, registry::NetworkServiceEndpoint,
};
use nsm_chain::{
    Call, Code, Connections, Directory, Element, Error, Expected, Next, Record, elements::Resolve,
};
use nsm_policy::roles::{RoleSource, serves};

use super::discover::{Candidates, Chosen};

/// How many endpoints one request tries: a caller's patience is used up by more.
const MAX_TRIES: usize = 8;

/// See the module.
pub struct RoundRobin {
    directory: Arc<dyn Directory>,
    roles: RoleSource,
}

impl std::fmt::Debug for RoundRobin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RoundRobin")
    }
}

impl RoundRobin {
    /// The element.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>, roles: RoleSource) -> Self {
        Self { directory, roles }
    }

    /// Finds an endpoint by its name, which must be one of this service.
    pub(crate) fn resolve(&self, name: &str, service: &str) -> Resolve {
        let (roles, service) = (self.roles.clone(), service.to_owned());
        Resolve::endpoint(self.directory.clone(), name.to_owned(), move |endpoint| {
            expected(&roles, endpoint, &service)
        })
    }
}

fn expected(roles: &RoleSource, endpoint: &NetworkServiceEndpoint, service: &str) -> Expected {
    let (roles, name) = (roles.clone(), endpoint.name.clone());
    let owner = endpoint.path_ids.first().cloned().unwrap_or_default();
    let service = service.to_owned();
    Expected::new(move |peer| serves(&roles.current(), peer, &name, &owner, &service))
}

/// Whether another endpoint may do what this one did not. Whose identity was not good enough is not
/// said: it may be an endpoint's own SVID that nobody renews.
fn worth_another(error: &Error) -> bool {
    !matches!(
        error.code,
        Code::InvalidArgument | Code::DeadlineExceeded | Code::Internal
    )
}

/// Whether this says that nobody is there.
fn is_away(error: &Error) -> bool {
    matches!(error.code, Code::Unavailable | Code::NotFound)
}

#[async_trait]
impl Element<Connections> for RoundRobin {
    fn name(&self) -> &'static str {
        "roundrobin"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let Candidates(candidates) = call.scratch.get().unwrap_or_default();
        let mut first_cause = None;
        let mut last_tier = usize::MAX;
        for (endpoint, tier) in candidates.iter().take(MAX_TRIES) {
            if *tier > last_tier {
                continue;
            }
            let mut request = request.clone();
            endpoint.name.clone_into(
                &mut request
                    .connection
                    .get_or_insert_default()
                    .network_service_endpoint_name,
            );
            let answer = match self.directory.target(endpoint, call.deadline).await {
                Ok(target) => {
                    let service = &request.connection.network_service;
                    call.scratch.put(expected(&self.roles, endpoint, service));
                    call.scratch.put(target);
                    call.scratch.put(self.resolve(&endpoint.name, service));
                    next.request(call, request).await
                }
                Err(error) => Err(error),
            };
            match answer {
                Ok(connection) => {
                    call.store.keep(Chosen(endpoint.name.clone()));
                    return Ok(connection);
                }
                Err(error) => {
                    tracing::info!(endpoint = endpoint.name, %error, "candidate refused");
                    let go_on = worth_another(&error);
                    if !is_away(&error) {
                        last_tier = last_tier.min(*tier);
                    }
                    first_cause.get_or_insert(error);
                    if !go_on {
                        break;
                    }
                }
            }
        }
        Err(first_cause.unwrap_or_else(|| Error::new(Code::NotFound, "no endpoint to try")))
    }

    async fn restore(
        &self,
        call: &mut Call,
        record: &Record<Connections>,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        if let Some(Chosen(name)) = call.store.kept() {
            call.scratch
                .put(self.resolve(&name, &record.item.network_service));
        }
        next.restore(call, record).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_endpoint_is_asked_where_it_may_differ() {
        for (code, expected) in [
            (Code::Unavailable, true),
            (Code::ResourceExhausted, true),
            (Code::PermissionDenied, true),
            // Its own SVID may have run out.
            (Code::Unauthenticated, true),
            (Code::InvalidArgument, false),
            (Code::DeadlineExceeded, false),
            (Code::Internal, false),
        ] {
            let error = Error::new(code, "refused");
            assert_eq!(worth_another(&error), expected, "{error:?}");
        }
    }
}
