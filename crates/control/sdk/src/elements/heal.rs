//! `heal`: a connection whose data path is broken gets another one.
//!
//! *What it does*: sdk `pkg/networkservice/common/heal`: follows the next hop, and looks at the
//! packets. A path that is known to be broken is asked for again with another endpoint, at once. A
//! control plane in doubt is none: while packets flow the connection is asked for as it is, for
//! however long hops are away; where they do not, it is broken. A heal that finds packets flowing
//! after all turns back. A refresh that finds its endpoint in no registry is such a doubt as well:
//! hops that could have said more may have been away. Waits grow, with jitter, from one heal to the
//! next as well; there is one heal of a connection at a time, and what is said meanwhile is looked
//! into before it ends.
//! *Where it stands*: after `refresh`; before the elements that connect.
//! *On Close*: nothing is healed any more.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use nsm_api::{
    connection::{Connection, State},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Call, Code, Connections, Element, Error, Hop, Next, Own, Tasks, Transport,
    begin::Factory,
    elements::{Downstream, Table, copy_metrics},
    follow::{Change, Follower, Sink},
};

use crate::{Liveness, healer::Healer};

/// See the module.
#[derive(Debug)]
pub struct Heal {
    follower: Follower,
    healer: Arc<Healer>,
}

/// The sink holds the healer without a cycle: the follower belongs to the element.
struct Told(Arc<Healer>);

impl Sink for Told {
    fn changed(&self, id: &str, change: Change, shown: Option<&Connection>) {
        self.0.heard(id, change, shown);
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
        liveness: Arc<dyn Liveness>,
    ) -> Self {
        let healer = Arc::new(Healer::new(table, tasks.clone(), patience, liveness));
        let follower = Follower::new(name, transport, tasks, Arc::new(Told(Arc::clone(&healer))));
        Self { follower, healer }
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
        let id = Own::of(call)?.id;
        let asked = next.request(call, request).await;
        if asked
            .as_ref()
            .is_err_and(|error| error.code == Code::NotFound)
        {
            self.healer.unregistered(&id);
        }
        let mut connection = asked?;
        connection.state = State::UP.into();
        let factory = Factory::of(call)?;
        self.healer.granted(id.clone(), factory, &connection);
        let hop = call.scratch.take::<Arc<dyn Hop>>();
        if let (Some(hop), Some(next)) = (hop, call.store.get::<Downstream>()) {
            self.follower.follow(&id, next, hop, false);
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
        self.healer.forget(&connection.id);
        next.close(call, connection).await
    }
}
