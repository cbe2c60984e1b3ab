//! `neighbour`: whoever calls holds the role that calls here, and names no connection but its own.
//!
//! *What it does*: asks the roles in force whether the caller may bring this connection, and its
//! maker have it. A path that names, at our place, a connection of this hop which somebody else
//! brought is refused: what stands there is either stale (then what stands before it is another)
//! or taken from somebody. Upstream has no such element: there any identity of the trust domain
//! may be any hop.
//! *Where it stands*: after `authorize`, which proved the caller's tokens; before `begin`.
//! *On Close*: whose connection it is alone: roles may have changed since it was made, and its
//! owner may always let it go.

use std::sync::Arc;

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_model::path;
use nsm_policy::{
    denial::{Denial, Kind},
    roles::{Asked, Place, RoleSource, calls},
};

use super::{
    Table,
    updatepath::{Claimed, Named},
};
use crate::{Call, Caller, Connections, Element, Error, Next, call::Own};

/// See the module.
pub struct Neighbour {
    place: Place,
    roles: RoleSource,
    table: Arc<dyn Table>,
}

impl std::fmt::Debug for Neighbour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Neighbour({:?})", self.place)
    }
}

impl Neighbour {
    /// The element of a hop of this kind with these connections.
    #[must_use]
    pub fn new(place: Place, roles: RoleSource, table: Arc<dyn Table>) -> Self {
        Self {
            place,
            roles,
            table,
        }
    }

    fn check_role(
        &self,
        call: &Call,
        caller: &Caller,
        connection: &Connection,
    ) -> Result<(), Error> {
        let own = Own::of(call)?;
        let asked = Asked {
            caller: &caller.id,
            first: own.index <= 1,
            maker: &own.key.owner,
            service: &connection.network_service,
            id: &own.key.id,
        };
        calls(&self.roles.current(), self.place, &asked).map_err(|denial| Error::denied(&denial))
    }

    /// Who lets a connection go by its id alone has brought it. False where nobody has: it has
    /// ended, and nothing is to be closed.
    fn check_named(&self, call: &Call, caller: &Caller) -> Result<bool, Error> {
        let Some(Named(id)) = call.scratch.get() else {
            return Ok(true);
        };
        if self.table.sees(&id, &caller.id) {
            return Ok(true);
        }
        if self.table.get(&id).is_none() {
            return Ok(false);
        }
        let why = format!(
            "{} has not brought connection {id} here: only who did may close it by its id",
            caller.id
        );
        let what = format!("close connection {id}");
        Err(Error::denied(&Denial::new(
            Kind::Owner,
            &caller.id,
            what,
            why,
        )))
    }

    fn check_owner(
        &self,
        call: &Call,
        caller: &Caller,
        connection: &Connection,
        what: &str,
    ) -> Result<(), Error> {
        let Some(Claimed(claimed)) = call.scratch.get() else {
            return Ok(());
        };
        let Some(theirs) = self.table.get(&claimed) else {
            return Ok(());
        };
        let same = before(&theirs).is_some() && before(&theirs) == before(connection);
        if !same || self.table.sees(&claimed, &caller.id) {
            return Ok(());
        }
        let why = format!(
            "connection {claimed} is not {}'s: only who made a connection, and the hops that carry it, may {what} it",
            caller.id
        );
        let what = format!("{what} connection {claimed}");
        Err(Error::denied(&Denial::new(
            Kind::Owner,
            &caller.id,
            what,
            why,
        )))
    }
}

/// The hop before: its name, and its id of the connection.
fn before(connection: &Connection) -> Option<(&str, &str)> {
    path::previous(&connection.path).map(|segment| (segment.name.as_str(), segment.id.as_str()))
}

#[async_trait]
impl Element<Connections> for Neighbour {
    fn name(&self) -> &'static str {
        "neighbour"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        if let Some(caller) = &call.caller {
            self.check_role(call, caller, &request.connection)?;
            self.check_owner(call, caller, &request.connection, "request")?;
        }
        next.request(call, request).await
    }

    async fn close(
        &self,
        call: &mut Call,
        connection: Connection,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        if let Some(caller) = &call.caller {
            if !self.check_named(call, caller)? {
                return Ok(());
            }
            self.check_owner(call, caller, &connection, "close")?;
        }
        next.close(call, connection).await
    }
}
