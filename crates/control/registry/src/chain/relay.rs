//! `relay`: who may register what, and who for others.
//!
//! *What it does*: a caller that is not the maker of what it registers must be one that may speak
//! for others (a manager), since the tokens before its own are not signed with a key known here;
//! and the maker must be one that may offer it, by the roles in force. Upstream has no such check:
//! there any peer can claim any owner.
//! *Where it stands*: after `authorize`, before anything is stored.
//! *On Close*: the first alone: an owner may always take back what it registered. Says whether an
//! operator asks, who may end what others registered.

use async_trait::async_trait;
use nsm_chain::{Call, Element, Error, Next};
use nsm_model::spiffe::SpiffeId;
use nsm_policy::{
    denial::{Denial, Kind},
    roles::{Role, RoleSource},
};

use super::Hops;
use crate::Record;

/// Who speaks for others here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relays {
    /// Nobody: at a manager, workloads register for themselves.
    Nobody,
    /// Managers: at a registry.
    Managers,
}

/// Whether an operator asks, who may end everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// It does.
    pub operator: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Relay {
    roles: RoleSource,
    relays: Relays,
}

impl Relay {
    /// The element.
    #[must_use]
    pub fn new(roles: RoleSource, relays: Relays) -> Self {
        Self { roles, relays }
    }

    /// Who registers: the caller, or whom it may speak for; `None` for this process itself.
    fn maker<R: Record>(&self, call: &Call, record: &R::Item) -> Result<Option<SpiffeId>, Error> {
        let (Some(caller), Some(Hops(hops))) = (&call.caller, call.scratch.get()) else {
            return Ok(None);
        };
        let maker = hops.first().map_or("", String::as_str);
        if maker == caller.id.as_str() {
            return Ok(Some(caller.id.clone()));
        }
        let relays = self.relays == Relays::Managers
            && self.roles.current().holds(Role::Manager, &caller.id);
        let named = maker.parse::<SpiffeId>();
        if let (true, Ok(named)) = (relays, named) {
            return Ok(Some(named));
        }
        let why = format!(
            "{} may not register for {maker}: only managers register for others (the roles file names them)",
            caller.id
        );
        let what = format!("register {} {:?}", R::NAME, R::id(record));
        Err(Error::denied(&Denial::new(
            Kind::Role,
            &caller.id,
            what,
            why,
        )))
    }
}

#[async_trait]
impl<R: Record> Element<R> for Relay {
    fn name(&self) -> &'static str {
        "relay"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: R::Request,
        next: Next<R>,
    ) -> Result<R::Item, Error> {
        let record = R::item(&request);
        if let Some(maker) = self.maker::<R>(call, record)? {
            let allowed = R::offered(&self.roles.current(), &maker, record);
            allowed.map_err(|denial| Error::denied(&denial))?;
        }
        next.request(call, request).await
    }

    async fn close(&self, call: &mut Call, item: R::Item, next: Next<R>) -> Result<(), Error> {
        let maker = self.maker::<R>(call, &item)?;
        let operator =
            maker.is_some_and(|maker| self.roles.current().holds(Role::Operator, &maker));
        call.scratch.put(Asker { operator });
        next.close(call, item).await
    }
}
