//! `monitor`: whoever watches this hop's connections learns what becomes of them.
//!
//! *What it does*: sdk `pkg/networkservice/common/monitor`: tells the role's table of every answer
//! and every Close, and of who may see it; and follows the next hop's own table, so that what goes
//! wrong further on is told to whoever watches here.
//! *Where it stands*: after `begin` and `timeout`; before the elements that connect.
//! *On Close*: the connection leaves the table, whatever fails further down.

use std::sync::Arc;

use async_trait::async_trait;
use nsm_api::{
    connection::{Connection, State},
    networkservice::NetworkServiceRequest,
};
use nsm_model::spiffe::SpiffeId;

use super::{Downstream, Interest};
use crate::{
    Call, Connections, Element, Error, Hop, Next, Record,
    call::Own,
    follow::{Change, Follower, Sink, is_of_before},
    owed::Owed,
};

/// A role's table of connections, which its watchers see.
pub trait Table: Send + Sync {
    /// A connection is new or has changed.
    fn update(&self, connection: Connection);
    /// Changes a connection that is here, as it is now: nobody else changes it in between, above
    /// all no request that is answered. `change` says whether it has changed anything; it asks
    /// nothing of this table.
    fn change(&self, id: &str, change: &mut dyn FnMut(&mut Connection) -> bool);
    /// From now on these see a connection: who brought it here, as its handshake proved, and who
    /// made it, as the hops that brought it say. To be said before its first update.
    fn show(&self, id: &str, to: Vec<SpiffeId>);
    /// Whether somebody may see a connection, other than as an operator.
    fn sees(&self, id: &str, who: &SpiffeId) -> bool;
    /// What somebody does about a connection here.
    fn interest(&self, id: &str, who: &SpiffeId) -> Interest;
    /// A connection has ended.
    fn delete(&self, id: &str);
    /// The connection with this id.
    fn get(&self, id: &str) -> Option<Connection>;
    /// The connections that an endpoint serves.
    fn served_by(&self, endpoint: &str) -> Vec<Connection>;
}

/// See the module.
pub struct Monitor {
    table: Arc<dyn Table>,
    follower: Option<Follower>,
    owed: Option<Owed>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Monitor")
    }
}

impl Monitor {
    /// The element of a role that is the last hop.
    #[must_use]
    pub fn last(table: Arc<dyn Table>) -> Self {
        Self {
            table,
            follower: None,
            owed: None,
        }
    }

    /// The element of a role with hops behind it.
    #[must_use]
    pub fn new(table: Arc<dyn Table>, follower: Follower) -> Self {
        Self {
            table,
            follower: Some(follower),
            owed: None,
        }
    }

    /// The same; closes that are owed of a connection that is asked for again wait.
    #[must_use]
    pub fn owing(self, owed: Owed) -> Self {
        Self {
            owed: Some(owed),
            ..self
        }
    }

    fn follow(&self, call: &Call, id: &str, connection: &Connection) {
        let Some(follower) = &self.follower else {
            return;
        };
        let (Some(hop), Some(next)) = (
            call.scratch.get::<Arc<dyn Hop>>(),
            call.store.get::<Downstream>(),
        ) else {
            return;
        };
        follower.follow(id, next, hop, is_last(connection));
    }
}

#[async_trait]
impl Element<Connections> for Monitor {
    fn name(&self) -> &'static str {
        "monitor"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        if let Some(follower) = &self.follower {
            call.scratch.put(follower.clone());
        }
        if let Some(owed) = &self.owed {
            owed.wanted(&request.connection.id);
        }
        let mut connection = next.request(call, request).await?;
        connection.state = State::UP.into();
        let Own { id, key, .. } = Own::of(call)?;
        self.follow(call, &id, &connection);
        // What we ask for again ourselves is seen by whoever brought it, as before.
        if let Some(caller) = &call.caller {
            self.table.show(&id, vec![caller.id.clone(), key.owner]);
        } else if self.table.get(&id).is_none() {
            self.table.show(&id, vec![key.owner]);
        }
        self.table.update(connection.clone());
        Ok(connection)
    }

    async fn close(
        &self,
        call: &mut Call,
        connection: Connection,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        let id = connection.id.clone();
        if let Some(follower) = &self.follower {
            follower.forget(&id);
        }
        let closed = next.close(call, connection).await;
        self.table.delete(&id);
        closed
    }

    async fn restore(
        &self,
        call: &mut Call,
        record: &Record<Connections>,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        next.restore(call, record).await?;
        let Own { id, key, .. } = Own::of(call)?;
        let seen_by = record.bringer.iter().cloned().chain([key.owner]).collect();
        self.table.show(&id, seen_by);
        let mut connection = record.item.clone();
        connection.state = match call.scratch.get::<Fallen>() {
            Some(Fallen) => State::DOWN.into(),
            None => State::UP.into(),
        };
        if let (Some(follower), Some(downstream)) = (&self.follower, call.store.get::<Downstream>())
        {
            let store = Arc::clone(&call.store);
            follower.resume(&id, downstream, is_last(&connection), move |found| {
                store.change(|next: &mut Downstream| next.learn(found));
            });
        }
        self.table.update(connection);
        Ok(())
    }
}

/// Said in `call.scratch` by an element that takes a connection up again and finds its far end
/// gone.
#[derive(Debug, Clone, Copy)]
pub struct Fallen;

/// Whether the next hop is the endpoint.
fn is_last(connection: &Connection) -> bool {
    connection.path.path_segments.len() == connection.path.index as usize + 2
}

/// What comes from further on is told to whoever watches here.
pub struct Relay(pub Arc<dyn Table>);

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Relay")
    }
}

impl Sink for Relay {
    fn changed(&self, id: &str, change: Change, shown: Option<&Connection>) {
        self.0.change(id, &mut |connection| {
            if is_of_before(shown, connection) {
                return false;
            }
            let set = shown.filter(|one| one.context.is_set());
            if let (Change::Refresh, Some(shown)) = (change, set) {
                // What a hop further on has now is what has to be asked for: whoever made it
                // compares.
                connection.context.clone_from(&shown.context);
            }
            // That a hop is away as well makes no broken path whole.
            if connection.state != State::DOWN {
                connection.state = match change {
                    Change::Down => State::DOWN.into(),
                    Change::Refresh => State::REFRESH_REQUESTED.into(),
                    Change::Move => State::RESELECT_REQUESTED.into(),
                };
            }
            tracing::info!(id, ?change, "next hop");
            true
        });
    }

    fn seen(&self, id: &str, seen: &Connection) {
        copy_metrics(self.0.as_ref(), id, seen);
    }
}

/// What hops further on have counted is shown here as well.
pub fn copy_metrics(table: &dyn Table, id: &str, seen: &Connection) {
    table.change(id, &mut |known| {
        let mut changed = false;
        let path = known.path.get_or_insert_default();
        // What they have of the hops before them is older than what we have.
        let further = path.index as usize + 1;
        for segment in path.path_segments.iter_mut().skip(further) {
            let counted = seen.path.path_segments.iter().find(|other| {
                other.name == segment.name && other.id == segment.id && !other.metrics.is_empty()
            });
            if let Some(counted) = counted.filter(|counted| counted.metrics != segment.metrics) {
                segment.metrics.clone_from(&counted.metrics);
                changed = true;
            }
        }
        changed
    });
}
