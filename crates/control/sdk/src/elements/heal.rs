//! `heal`: a connection whose far end is gone gets another one.
//!
//! *What it does*: sdk `pkg/networkservice/common/heal`: follows the next hop; a connection that is
//! down is asked for again with another endpoint, one whose hop has lost it is asked for again as
//! it is, and with another endpoint only when that has failed for a while. Waits grow, with
//! jitter; there is one heal at a time.
//! *Where it stands*: after `refresh`; before the elements that connect.
//! *On Close*: nothing is healed any more.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use buffa::{Inline, MessageField};
use nsm_api::{
    connection::{Connection, State},
    connectioncontext::{ConnectionContext, IPContext},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Backoff, Blame, Call, Code, Connections, Element, Error, Hop, Next, Own, Target, Tasks,
    Transport,
    begin::Factory,
    elements::{Table, copy_metrics},
    follow::{Change, Follower, Sink},
};
use tokio::time::Instant;

use crate::handover::without;

/// How long a connection is asked for as it is before another endpoint is chosen: a manager or a
/// forwarder that restarts takes less, and the packets of its connections flow meanwhile.
const ESCALATE: Duration = Duration::from_secs(3);
/// Waits between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// See the module.
#[derive(Debug)]
pub struct Heal {
    follower: Follower,
    healer: Arc<Healer>,
}

struct Healer {
    table: Arc<dyn Table>,
    tasks: Tasks,
    patience: Duration,
    connections: Mutex<BTreeMap<String, Watched>>,
}

struct Watched {
    factory: Factory<Connections>,
    /// The heal that runs: what it should do next.
    healing: Option<Change>,
}

impl std::fmt::Debug for Healer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Healer")
    }
}

/// The sink holds the healer without a cycle: the follower belongs to the element.
struct Told(Arc<Healer>);

impl Sink for Told {
    fn changed(&self, id: &str, change: Change) {
        self.0.changed(id, change);
    }

    fn seen(&self, id: &str, connection: &Connection) {
        copy_metrics(self.0.table.as_ref(), id, connection);
    }
}

impl Heal {
    /// The element of the hop with this name. Watchers of `table` learn of a heal that changed a
    /// connection's context. One attempt may take `patience`.
    #[must_use]
    pub fn new(
        name: &str,
        transport: Arc<dyn Transport>,
        table: Arc<dyn Table>,
        tasks: Tasks,
        patience: Duration,
    ) -> Self {
        let connections = Mutex::default();
        let healer = Arc::new(Healer {
            table,
            tasks: tasks.clone(),
            patience,
            connections,
        });
        let follower = Follower::new(name, transport, tasks, Arc::new(Told(Arc::clone(&healer))));
        Self { follower, healer }
    }
}

impl Healer {
    fn connections(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Watched>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(self: &Arc<Self>, id: &str, change: Change) {
        let mut connections = self.connections();
        let Some(watched) = connections.get_mut(id) else {
            return;
        };
        let running = watched.healing.is_some();
        if watched.healing != Some(Change::Down) {
            watched.healing = Some(change);
        }
        if running {
            return;
        }
        let (healer, id, factory) = (Arc::clone(self), id.to_owned(), watched.factory.clone());
        drop(connections);
        tracing::info!(id, ?change, "healing");
        self.tasks
            .spawn(async move { healer.heal(&id, factory).await });
    }

    /// What the heal of this connection should do; `None` when it has ended.
    fn wanted(&self, id: &str) -> Option<Change> {
        self.connections().get(id)?.healing
    }

    async fn heal(&self, id: &str, factory: Factory<Connections>) {
        let began = Instant::now();
        // Since when somebody beyond the own manager has refused: it alone says nothing of the far
        // end when it is away.
        let mut refused_since = None::<Instant>;
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut gone = false;
        let before = self.table.get(id).map(|known| known.context);
        while let Some(change) = self.wanted(id) {
            let reselect = gone
                || change == Change::Down
                || refused_since.is_some_and(|since| since.elapsed() >= ESCALATE);
            let deadline = Instant::now() + self.patience;
            let mut left = IPContext::default();
            let change = |request: &mut NetworkServiceRequest| {
                left.clone_from(&request.connection.context.ip_context);
                prepare(request, reselect);
            };
            match factory.again(deadline, change).await {
                // It went down while it was asked for as it is.
                Ok(_) if !reselect && self.wanted(id) == Some(Change::Down) => continue,
                Ok(mut healed) => {
                    if reselect {
                        healed = moved(&factory, deadline, &left, healed).await;
                    }
                    tracing::info!(
                        id,
                        took_ms = began.elapsed().as_millis(),
                        reselect,
                        "healed"
                    );
                    self.done(id, before.as_ref(), healed);
                    return;
                }
                Err(error) => {
                    tracing::warn!(id, %error, reselect, "heal failed, trying again");
                    gone |= error.code == Code::NotFound;
                    if error.blame != Blame::NextHop {
                        refused_since.get_or_insert_with(Instant::now);
                    }
                }
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Watchers learn that addresses or MTU are others now: they must ask again to get them.
    fn done(
        &self,
        id: &str,
        before: Option<&MessageField<ConnectionContext, Inline<ConnectionContext>>>,
        healed: Option<Connection>,
    ) {
        if let Some(watched) = self.connections().get_mut(id) {
            watched.healing = None;
        }
        let Some(healed) = healed else { return };
        if before.is_some_and(|before| *before != healed.context)
            && let Some(mut known) = self.table.get(id)
        {
            known.state = State::REFRESH_REQUESTED.into();
            self.table.update(known);
        }
    }
}

/// Asks once more where the new endpoint has its own addresses and the old one's are still there.
async fn moved(
    factory: &Factory<Connections>,
    deadline: Instant,
    left: &IPContext,
    healed: Option<Connection>,
) -> Option<Connection> {
    let own = healed
        .as_ref()
        .and_then(|now| without(left, &now.context.ip_context));
    let Some(own) = own else {
        return healed;
    };
    let change = |request: &mut NetworkServiceRequest| {
        let connection = request.connection.get_or_insert_default();
        connection.context.get_or_insert_default().ip_context = MessageField::some(own);
    };
    match factory.again(deadline, change).await {
        Ok(changed) => changed,
        Err(error) => {
            tracing::warn!(?factory, %error, "the addresses of the endpoint before stay");
            healed
        }
    }
}

fn prepare(request: &mut NetworkServiceRequest, reselect: bool) {
    if reselect {
        let connection = request.connection.get_or_insert_default();
        connection.state = State::RESELECT_REQUESTED.into();
        connection.mechanism = MessageField::none();
        connection.network_service_endpoint_name.clear();
    }
}

#[async_trait]
impl Element<Connections> for Heal {
    fn name(&self) -> &'static str {
        "heal"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let mut connection = next.request(call, request).await?;
        connection.state = State::UP.into();
        let id = Own::of(call)?.id;
        let factory = Factory::of(call)?;
        {
            let mut connections = self.healer.connections();
            let healing = connections.get(&id).and_then(|watched| watched.healing);
            connections.insert(id.clone(), Watched { factory, healing });
        }
        let hop = call.scratch.take::<Arc<dyn Hop>>();
        if let (Some(hop), Some(target)) = (hop, call.scratch.get::<Target>()) {
            self.follower.follow(&id, target, hop, false);
        }
        Ok(connection)
    }

    async fn close(
        &self,
        call: &mut Call,
        connection: Connection,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        self.follower.forget(&connection.id);
        self.healer.connections().remove(&connection.id);
        next.close(call, connection).await
    }
}
