//! `updatepath`: the connection's path gains, or finds again, this hop's segment.
//!
//! *What it does*: moves the path's index to our segment on the way down and back on the way up
//! (sdk `pkg/networkservice/common/updatepath`). Our id is derived with a secret from who owns the
//! connection, who brings it, the id that it came with and our name, so that a retry is the same
//! request and nobody else can name it. Whoever holds a hop's role brings it as that hop, by role
//! and hop name, so that one that was restarted under another SPIFFE ID brings the same id. A
//! caller whose path already stands at a segment of our name is refused.
//! *Where it stands*: first in every list: everything after it speaks of our own segment's id.
//! *On Close*: the same step, so that the same id comes out. A hop that lost the tokens of those
//! before it names the id that it was given.

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_identity::token;
use nsm_model::{
    ids::{ConnectionKey, Secret, derive_id},
    path::{self, Step},
    spiffe::SpiffeId,
};
use nsm_policy::{
    denial::{Denial, Kind},
    roles::RoleSource,
};

use crate::{Call, Code, Connections, Element, Error, Next, call::Own};

/// See the module.
#[derive(Debug)]
pub struct UpdatePath {
    name: String,
    secret: Secret,
    own_id: SpiffeId,
    roles: RoleSource,
}

/// The id that the path had at our place when it came, where it is not the one that we give: a
/// stale one, or somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claimed(pub(super) String);

/// The id that a hop without the tokens of those before it names at our place, to let it go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named(pub(super) String);

impl UpdatePath {
    /// The element of the hop with this (stable) name; `own_id` owns what begins here.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        secret: Secret,
        own_id: SpiffeId,
        roles: RoleSource,
    ) -> Self {
        Self {
            name: name.into(),
            secret,
            own_id,
            roles,
        }
    }

    fn step(&self, call: &mut Call, connection: &mut Connection) -> Result<Step, Error> {
        self.refuse_ours(call, connection)?;
        let key = self.key(call, connection)?;
        let id = connection.id.clone();
        let through = self.through(call, connection);
        let claimed = path::next(&connection.path)
            .filter(|segment| segment.name == self.name && !segment.id.is_empty())
            .map(|segment| segment.id.clone());
        let path = connection.path.get_or_insert_default();
        let derive = |upstream: &str| {
            derive_id(
                &self.secret,
                &key,
                &format!("{through} {upstream}"),
                &self.name,
            )
        };
        let step = path::advance(&id, path, &self.name, derive).map_err(|error| {
            Error::new(Code::InvalidArgument, format!("connection {id}: {error}"))
        })?;
        step.enter(connection);
        if let Some(claimed) = claimed.filter(|claimed| *claimed != step.id) {
            call.scratch.put(Claimed(claimed));
        }
        call.own = Some(Own {
            key,
            id: step.id.clone(),
            index: step.index,
        });
        Ok(step)
    }

    /// A hop that was started again has no tokens of those before it, and lets a connection go by
    /// the id that we gave it. Whoever holds a hop's role may say so: it is the business of
    /// `authorize` that the caller's own token is good, and of `neighbour` that it brought that
    /// very connection.
    fn named(&self, call: &Call, connection: &Connection) -> Option<Own> {
        let caller = call.caller.as_ref()?;
        self.roles.current().hop(&caller.id)?;
        self.refuse_ours(call, connection).ok()?;
        let first = connection.path.path_segments.first()?;
        let ours = path::next(&connection.path)?;
        if !first.token.is_empty() || ours.name != self.name || ours.id.is_empty() {
            return None;
        }
        Some(Own {
            // `begin` knows whose it is, if it knows it.
            key: ConnectionKey {
                owner: self.own_id.clone(),
                id: first.id.clone(),
            },
            id: ours.id.clone(),
            index: connection.path.index + 1,
        })
    }

    /// Who brings a connection, as its id knows it. The first segment's token is not signed with a
    /// key known here: without the bringer anybody could speak for somebody else's client. A hop is
    /// the same hop after a restart, whatever its pod is called; a client is who it is.
    fn through(&self, call: &Call, connection: &Connection) -> String {
        let Some(caller) = &call.caller else {
            return String::new();
        };
        let segment = path::own(&connection.path).filter(|_| connection.path.index > 0);
        match (segment, self.roles.current().hop(&caller.id)) {
            (Some(segment), Some(role)) => format!("{role} {}", segment.name),
            _ => caller.id.to_string(),
        }
    }

    /// A path that comes from outside stands at the caller's segment. One that stands at a segment
    /// of our name would say our id for us, and that may be another client's connection.
    fn refuse_ours(&self, call: &Call, connection: &Connection) -> Result<(), Error> {
        let Some(caller) = &call.caller else {
            return Ok(());
        };
        if path::own(&connection.path).is_none_or(|segment| segment.name != self.name) {
            return Ok(());
        }
        let message = format!(
            "connection {}: {} calls with path.index {} at a segment named {:?}, which is this hop's own name: give \
             every hop a name of its own",
            connection.id, caller.id, connection.path.index, self.name
        );
        let what = format!("call with connection {}", connection.id);
        Err(Error::denied(&Denial::new(
            Kind::Path,
            &caller.id,
            what,
            message,
        )))
    }

    /// The maker of a connection is the caller where the path has one segment, further on whoever
    /// the first segment's token names.
    fn key(&self, call: &Call, connection: &Connection) -> Result<ConnectionKey, Error> {
        let Some(first) = connection.path.path_segments.first() else {
            return Ok(ConnectionKey {
                owner: self.own_id.clone(),
                id: connection.id.clone(),
            });
        };
        let owner = match &call.caller {
            Some(caller) if connection.path.index == 0 => caller.id.clone(),
            Some(_) => subject(&first.token).map_err(|error| {
                let message = format!(
                    "connection {}: the token of path segment 0 ({}): {error}",
                    connection.id, first.name
                );
                Error::new(Code::Unauthenticated, message)
            })?,
            None => self.own_id.clone(),
        };
        Ok(ConnectionKey {
            owner,
            id: first.id.clone(),
        })
    }
}

/// Whom a token speaks of; its signature is the business of `authorize`.
fn subject(jwt: &str) -> Result<SpiffeId, String> {
    let claims = token::decode_unverified(jwt).map_err(|error| error.to_string())?;
    claims
        .sub
        .parse()
        .map_err(|error| format!("sub {:?}: {error}", claims.sub))
}

#[async_trait]
impl Element<Connections> for UpdatePath {
    fn name(&self) -> &'static str {
        "updatepath"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let step = self.step(call, request.connection.get_or_insert_default())?;
        let mut connection = next.request(call, request).await?;
        step.rewind(&mut connection);
        Ok(connection)
    }

    async fn close(
        &self,
        call: &mut Call,
        mut connection: Connection,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        let Some(own) = self.named(call, &connection) else {
            self.step(call, &mut connection)?;
            return next.close(call, connection).await;
        };
        connection.id.clone_from(&own.id);
        connection.path.get_or_insert_default().index = own.index;
        call.scratch.put(Named(own.id.clone()));
        call.own = Some(own);
        next.close(call, connection).await
    }
}
