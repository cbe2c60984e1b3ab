//! A lease that ended while the hop before may be away: kept until something is known.
//!
//! Nobody can be asked whether it still has a connection, but everybody who has one watches the
//! next hop. So a hop that doubts opens a watch at the next hop that names the connection by its
//! id: it *holds* it. A lease whose hop holds the connection does not end; one whose hop watches
//! us without holding it has been disowned; and one whose hop does not watch at all is suspended.
//! A hop whose own lease was prolonged while the next hop's was not holds it there as well.
//! Hops of the Go implementation fit in: one that is alive watches its connections as well.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use nsm_api::connection::{MonitorScopeSelector, PathSegment};
use nsm_model::spiffe::SpiffeId;
use nsm_policy::roles::RoleSource;
use tokio::time::{Instant, sleep};

use crate::{
    Error, Own, Store, Tokens, Transport,
    downstream::Downstream,
    elements::{LONGEST, Table},
    tokens::muted,
};

/// How long a hop that watches us has to say that it holds a connection, once its own lease must
/// have ended.
const GRACE: Duration = Duration::from_secs(5);
/// How often a hop is looked at while there is doubt.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long reaching the next hop may take.
const DIAL: Duration = Duration::from_secs(2);

/// What somebody does about one of our connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// It has no stream open here.
    Away,
    /// It watches this hop.
    Watches,
    /// It watches this connection by its id.
    Holds,
}

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Suspension {
    name: String,
    tokens: Arc<dyn Tokens>,
    table: Arc<dyn Table>,
    transport: Arc<dyn Transport>,
    roles: RoleSource,
}

impl std::fmt::Debug for Suspension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Suspension({})", self.name)
    }
}

/// One of our connections, as the next hop is told of it.
pub(crate) struct Hold {
    suspension: Suspension,
    id: String,
    store: Arc<Store>,
}

/// A lease in doubt.
pub(crate) struct Doubt {
    bringer: SpiffeId,
    lease: Duration,
}

impl Suspension {
    /// Of the hop with this name, whose watchers `table` knows.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        tokens: Arc<dyn Tokens>,
        table: Arc<dyn Table>,
        transport: Arc<dyn Transport>,
        roles: RoleSource,
    ) -> Self {
        Self {
            name: name.into(),
            tokens,
            table,
            transport,
            roles,
        }
    }

    /// The way to hold a connection further on.
    pub(crate) fn hold(&self, own: &Own, store: &Arc<Store>) -> Hold {
        Hold {
            suspension: self.clone(),
            id: own.id.clone(),
            store: Arc::clone(store),
        }
    }

    /// What is in doubt of a connection that a hop brought; nothing of a client's own, which is
    /// gone when it does not come.
    pub(crate) fn doubt(&self, bringer: &SpiffeId, lease: Duration) -> Option<Doubt> {
        self.roles.current().hop(bringer)?;
        Some(Doubt {
            bringer: bringer.clone(),
            lease,
        })
    }
}

impl Hold {
    /// Does some work, and holds the connection at the next hop meanwhile.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.keep() => match never {},
        }
    }

    /// Waits, and holds the connection, until it is known to be nobody's.
    pub(crate) async fn settle(&self, doubt: &Doubt) {
        self.during(self.disowned(doubt)).await;
    }

    async fn disowned(&self, doubt: &Doubt) {
        let began = Instant::now();
        let mut here = None;
        // A token is used until half of its life is left: the hop before may have a lease of twice
        // ours, it began when that hop was started again, and until it ends it has no doubt to say.
        let patience = doubt.lease * 2 + GRACE;
        let mut told = false;
        while began.elapsed() < LONGEST {
            let bringer = &doubt.bringer;
            let interest = self.suspension.table.interest(&self.id, bringer);
            if interest == Interest::Watches {
                if here.get_or_insert_with(Instant::now).elapsed() >= patience {
                    return;
                }
            } else {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(id = self.id, %bringer, ?interest, "lease ended in doubt: kept");
                }
                here = None;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Never ends: a stream that does is opened again.
    async fn keep(&self) -> Infallible {
        loop {
            if let Some(next) = self.store.get::<Downstream>()
                && let Err(error) = self.watch(&next).await
            {
                tracing::debug!(id = self.id, %error, "holding at the next hop");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn watch(&self, next: &Downstream) -> Result<(), Error> {
        let Suspension {
            name,
            tokens,
            transport,
            ..
        } = &self.suspension;
        let hop = next
            .reach(transport.as_ref(), Instant::now() + DIAL)
            .await?;
        let segment = PathSegment {
            name: name.clone(),
            id: self.id.clone(),
            ..Default::default()
        };
        let selector = MonitorScopeSelector {
            path_segments: vec![segment],
            ..Default::default()
        };
        let mut events = hop.monitor(selector).await?;
        let ended = async {
            while let Some(event) = events.next().await {
                event?;
            }
            Ok(())
        };
        tokio::select! {
            biased;
            ended = ended => ended,
            () = muted(tokens.as_ref()) => Ok(()),
        }
    }
}
