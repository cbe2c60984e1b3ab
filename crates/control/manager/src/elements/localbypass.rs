//! `localbypass`: others reach a local endpoint through us, we reach it ourselves.
//!
//! *What it does*: sdk `pkg/registry/common/localbypass`: keeps the endpoint's own URL and socket,
//! registers it further up with ours, and gives its own back in the answer. While the registry is
//! away, one that is local already stays so if its owner asks again: who is here is our knowledge,
//! not the registry's. So is who forwards here, and a forwarder may be new: nobody on another node
//! asks for it. It is told to come back soon, so that a registry that returns hears of it.
//! *Where it stands*: after `recvfd`; before `connect`.
//! *On Close*: by its owner, by an operator, or at the end of its lease: the endpoint is local no
//! longer, whatever the registry says.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use buffa::MessageField;
use buffa_types::google::protobuf::Timestamp;
use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::{Call, Code, Element, Endpoints, Error, Next, Record, Tokens};
use nsm_policy::{
    denial::{Denial, Kind},
    roles::{Role, RoleSource},
};
use nsm_registry::chain::Asker;

use super::recvfd::Socket;
use crate::{Local, Locals};

/// How long a registration lasts that the registry has not heard of: endpoints come again after a
/// third of it.
const UNHEARD: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Clone)]
pub struct LocalBypass {
    locals: Arc<Locals>,
    own_url: String,
    forwarders: Forwarders,
    tokens: Arc<dyn Tokens>,
}

impl std::fmt::Debug for LocalBypass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalBypass({})", self.own_url)
    }
}

/// Who may register as a forwarder: it is handed the namespaces of everybody's clients.
#[derive(Clone)]
pub struct Forwarders {
    /// The service that forwarders register under.
    pub service: String,
    /// Who holds that role.
    pub roles: RoleSource,
}

impl std::fmt::Debug for Forwarders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Forwarders({})", self.service)
    }
}

impl LocalBypass {
    /// The element of the manager at this URL.
    #[must_use]
    pub fn new(
        locals: Arc<Locals>,
        own_url: impl Into<String>,
        forwarders: Forwarders,
        tokens: Arc<dyn Tokens>,
    ) -> Self {
        Self {
            locals,
            own_url: own_url.into(),
            forwarders,
            tokens,
        }
    }

    /// What its owner is answered of a local endpoint while the registry is away; and a forwarder,
    /// of which nobody but us has to know. Nobody else who is new, nor anybody else.
    fn unheard(
        &self,
        call: &Call,
        asked: NetworkServiceEndpoint,
        error: &Error,
    ) -> Option<NetworkServiceEndpoint> {
        if !matches!(error.code, Code::Unavailable | Code::DeadlineExceeded) {
            return None;
        }
        let caller = call.caller.as_ref().map(|caller| &caller.id);
        let mut endpoint = match self.locals.get(&asked.name) {
            Some(local) => (local.owner.as_ref() == caller).then_some(local.endpoint)?,
            None => self.forwards(&asked).then_some(asked)?,
        };
        tracing::debug!(endpoint = endpoint.name, %error, "local without the registry");
        let until = self.tokens.now() + UNHEARD;
        endpoint.expiration_time = MessageField::some(Timestamp::from(until));
        Some(endpoint)
    }

    /// Whether it is a forwarder and nothing else.
    fn forwards(&self, endpoint: &NetworkServiceEndpoint) -> bool {
        endpoint.network_service_names == [self.forwarders.service.as_str()]
    }

    fn check_role(&self, call: &Call, endpoint: &NetworkServiceEndpoint) -> Result<(), Error> {
        let Some(caller) = &call.caller else {
            return Ok(());
        };
        let service = &self.forwarders.service;
        let forwards = endpoint.network_service_names.contains(service);
        let roles = self.forwarders.roles.current();
        if !forwards || roles.holds(Role::Forwarder, &caller.id) {
            return Ok(());
        }
        let why = format!(
            "endpoint {}: {} may not register as a forwarder (network service {service:?}): give it that role in the \
             manager's roles file, or offer another service",
            endpoint.name, caller.id
        );
        let what = format!("register forwarder {}", endpoint.name);
        Err(Error::denied(&Denial::new(
            Kind::Role,
            &caller.id,
            what,
            why,
        )))
    }
}

#[async_trait]
impl Element<Endpoints> for LocalBypass {
    fn name(&self) -> &'static str {
        "localbypass"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut endpoint: NetworkServiceEndpoint,
        next: Next<Endpoints>,
    ) -> Result<NetworkServiceEndpoint, Error> {
        let socket = call
            .scratch
            .get::<Socket>()
            .map(|Socket(inode, socket)| (inode, socket));
        self.check_role(call, &endpoint)?;
        let owner = call.caller.as_ref().map(|caller| caller.id.clone());
        let url = std::mem::replace(&mut endpoint.url, self.own_url.clone());
        let mut answer = match next.request(call, endpoint.clone()).await {
            Ok(answer) => answer,
            Err(error) => self.unheard(call, endpoint, &error).ok_or(error)?,
        };
        answer.url = url;
        self.locals.insert(Local {
            endpoint: answer.clone(),
            owner,
            socket,
        });
        Ok(answer)
    }

    async fn close(
        &self,
        call: &mut Call,
        mut endpoint: NetworkServiceEndpoint,
        next: Next<Endpoints>,
    ) -> Result<(), Error> {
        let name = endpoint.name.clone();
        let caller = call.caller.as_ref().map(|caller| caller.id.clone());
        let own = self
            .locals
            .get(&name)
            .is_some_and(|local| local.owner == caller);
        let operator = call.scratch.get() == Some(Asker { operator: true });
        if caller.is_none() || own || operator {
            self.locals.remove(&name);
        }
        self.own_url.clone_into(&mut endpoint.url);
        next.close(call, endpoint).await
    }

    /// It stays visible: its socket comes with its next registration, which a lost connection to
    /// us makes it do at once.
    async fn restore(
        &self,
        call: &mut Call,
        record: &Record<Endpoints>,
        next: Next<Endpoints>,
    ) -> Result<(), Error> {
        self.locals.insert(Local {
            endpoint: record.item.clone(),
            owner: record.bringer.clone(),
            socket: None,
        });
        next.restore(call, record).await
    }
}
