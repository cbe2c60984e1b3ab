//! Answers Find from the copy of the registry; what is local is passed on with its socket.

use std::{os::fd::AsFd as _, sync::Arc};

use async_trait::async_trait;
use buffa::MessageField;
use futures_util::{StreamExt as _, stream};
use nsm_api::registry::{
    NetworkServiceEndpoint, NetworkServiceEndpointQuery, NetworkServiceEndpointResponse,
    NetworkServiceQuery, NetworkServiceResponse,
};
use nsm_chain::{Call, Caller, Code, Endpoints, Error, Services};
use nsm_policy::roles::{Role, RoleSource};
use nsm_registry::mirror::Sourced;
use nsm_rpc::{Answers, Find};

use crate::{Local, View, watching::Watching};

/// See the module.
#[derive(Debug, Clone)]
pub struct Finder {
    /// What there is, as this node sees it.
    pub view: View,
    /// Who may have a local endpoint's socket.
    pub roles: RoleSource,
}

impl Finder {
    /// What the copy has; where it has nothing, what the registry itself says.
    async fn found<R: Sourced>(
        &self,
        copied: Vec<Arc<R::Item>>,
        query: R::Item,
        call: &Call,
    ) -> Result<Vec<Arc<R::Item>>, Error> {
        if copied.is_empty() {
            return self
                .view
                .mirror()
                .find_through::<R>(query, call.deadline)
                .await;
        }
        Ok(copied)
    }
}

/// A local endpoint's socket goes to hops, operators and its owner, beside the answer that names
/// its inode.
/// Others see it as the registry has it: who may connect is asked at our own door, and a socket
/// would be a way around it.
pub(crate) fn pass(
    finder: &Finder,
    caller: Option<&Caller>,
    endpoint: &NetworkServiceEndpoint,
) -> Option<NetworkServiceEndpoint> {
    let seen = finder.view.seen(endpoint)?;
    let Some(caller) = caller else {
        return Some(seen);
    };
    let local = finder.view.local(&seen.name);
    let owner = local.as_ref().and_then(|local| local.owner.as_ref());
    let roles = finder.roles.current();
    let trusted = roles.hop(&caller.id).is_some() || roles.holds(Role::Operator, &caller.id);
    if !trusted && owner != Some(&caller.id) {
        return Some(endpoint.clone());
    }
    // Known from before our restart, and not back yet.
    if local.as_ref().is_some_and(Local::is_awaited) {
        return None;
    }
    let socket = local.and_then(|local| local.socket);
    if let Some((_, socket)) = socket
        && let Err(error) = caller.descriptors.send(socket.as_fd())
    {
        tracing::debug!(caller = %caller.id, endpoint = seen.name, %error, "cannot pass a local endpoint's socket on");
        return None;
    }
    Some(seen)
}

/// A manager that was started again knows a local endpoint when that has registered again: until
/// then it may be there, and only knowledge moves a connection away from it.
fn not_back(name: &str) -> Error {
    let message = format!(
        "endpoint {name:?} is registered through this manager and has not come back to it yet; asking again helps \
         when it does"
    );
    Error::new(Code::Unavailable, message)
}

fn service_answer(
    service: nsm_api::registry::NetworkService,
    deleted: bool,
) -> NetworkServiceResponse {
    NetworkServiceResponse {
        network_service: MessageField::some(service),
        deleted,
        ..Default::default()
    }
}

fn endpoint_answer(
    endpoint: NetworkServiceEndpoint,
    deleted: bool,
) -> NetworkServiceEndpointResponse {
    let network_service_endpoint = MessageField::some(endpoint);
    NetworkServiceEndpointResponse {
        network_service_endpoint,
        deleted,
        ..Default::default()
    }
}

#[async_trait]
impl Find<Services> for Finder {
    async fn find(
        &self,
        call: Call,
        query: NetworkServiceQuery,
    ) -> Result<Answers<NetworkServiceResponse>, Error> {
        let wanted = query.network_service.into_option().unwrap_or_default();
        if !query.watch {
            let copied = self.view.mirror().services(&wanted);
            let found = self.found::<Services>(copied, wanted, &call).await?;
            return Ok(stream::iter(found)
                .map(|service| Ok(service_answer((*service).clone(), false)))
                .boxed());
        }
        let events = self.view.mirror().watch::<Services>(wanted)?.into_events();
        Ok(events
            .map(|event| event.map(|event| service_answer((*event.item).clone(), event.deleted)))
            .boxed())
    }
}

#[async_trait]
impl Find<Endpoints> for Finder {
    async fn find(
        &self,
        call: Call,
        query: NetworkServiceEndpointQuery,
    ) -> Result<Answers<NetworkServiceEndpointResponse>, Error> {
        let wanted = query
            .network_service_endpoint
            .into_option()
            .unwrap_or_default();
        let caller = call.caller.clone();
        if !query.watch {
            self.view.returned(call.deadline).await;
            let copied = self.view.mirror().endpoints(&wanted);
            let named = !wanted.name.is_empty();
            let found = self.found::<Endpoints>(copied, wanted, &call).await?;
            let seen: Vec<_> = found
                .iter()
                .filter_map(|one| pass(self, caller.as_ref(), one))
                .collect();
            if let ([], [missing]) = (&seen[..], &found[..])
                && named
            {
                return Err(not_back(&missing.name));
            }
            return Ok(stream::iter(seen)
                .map(|endpoint| Ok(endpoint_answer(endpoint, false)))
                .boxed());
        }
        let watch = self.view.mirror().watch::<Endpoints>(wanted)?;
        let watching = Watching::new(watch, self.clone(), caller);
        let events = stream::unfold(Some(watching), async |watching| {
            let mut watching = watching?;
            match watching.next().await {
                Ok((endpoint, deleted)) => {
                    Some((Ok(endpoint_answer(endpoint, deleted)), Some(watching)))
                }
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(events.boxed())
    }
}
