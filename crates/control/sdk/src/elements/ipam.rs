//! `point2pointipam`: each connection gets a pair of addresses, ours and the client's.
//!
//! *What it does*: sdk `pkg/networkservice/ipam/point2pointipam` over groups of prefixes: one pair
//! of each group, addresses that the request brings are kept where they are free; what a failed
//! request was given is taken back.
//! *Where it stands*: before `mechanisms`.
//! *On Close*: the addresses are free again, once, whatever fails further down.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use nsm_api::{
    connection::Connection, connectioncontext::Route, networkservice::NetworkServiceRequest,
};
use nsm_chain::{Call, Code, Connections, Element, Error, Next, Record};
use nsm_model::ipam::{IpamError, PointToPoint};
use tokio::time::{Instant, sleep_until};

/// The addresses of an endpoint, and which connection has which.
#[derive(Debug, Clone)]
pub struct Prefixes(Arc<Mutex<PointToPoint>>, Arc<OnceLock<Instant>>);

impl Prefixes {
    /// Addresses from these.
    #[must_use]
    pub fn new(addresses: PointToPoint) -> Self {
        Self(Arc::new(Mutex::new(addresses)), Arc::default())
    }

    /// Until then addresses are given to connections alone that have had them from here before: a
    /// process that was restarted without a journal learns from them which ones are taken.
    pub fn hold_until(&self, until: Instant) {
        let _only_the_first_counts = self.1.set(until);
    }

    async fn settled(&self, call: &Call, connection: &Connection) {
        let agreed = connection.mechanism.as_option();
        let known = agreed.is_some_and(|mechanism| !mechanism.r#type.is_empty());
        if let Some(until) = self.1.get().filter(|_| !known) {
            sleep_until(call.deadline.min(*until)).await;
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut PointToPoint) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many connections have addresses.
    #[must_use]
    pub fn leases(&self) -> usize {
        self.with(|addresses| addresses.leases())
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Ipam {
    prefixes: Prefixes,
    routes: Vec<Route>,
    mtu: u32,
}

impl Ipam {
    /// The element; `routes` are the client's, through us. `mtu` is in bytes; 0 leaves it open.
    #[must_use]
    pub fn new(prefixes: Prefixes, routes: Vec<Route>, mtu: u32) -> Self {
        Self {
            prefixes,
            routes,
            mtu,
        }
    }
}

fn refused(id: &str, error: &IpamError) -> Error {
    let code = match error {
        IpamError::Exhausted { .. } | IpamError::TooMany => Code::ResourceExhausted,
        IpamError::Address { .. }
        | IpamError::Overlap { .. }
        | IpamError::NoPrefix
        | IpamError::Brackets(_)
        | IpamError::TooLong { .. } => Code::InvalidArgument,
    };
    Error::new(code, format!("connection {id}: {error}"))
}

#[async_trait]
impl Element<Connections> for Ipam {
    fn name(&self) -> &'static str {
        "point2pointipam"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let connection = request.connection.get_or_insert_default();
        self.prefixes.settled(call, connection).await;
        let id = connection.id.clone();
        let context = connection.context.get_or_insert_default();
        let ip = context.ip_context.get_or_insert_default();
        let assigned = self.prefixes.with(|addresses| addresses.allocate(&id, ip));
        assigned
            .map_err(|error| refused(&id, &error))?
            .write_alone(ip);
        for route in &self.routes {
            if !ip.src_routes.contains(route) {
                ip.src_routes.push(route.clone());
            }
        }
        if self.mtu != 0 {
            context.MTU = if context.MTU == 0 {
                self.mtu
            } else {
                context.MTU.min(self.mtu)
            };
        }
        let answer = next.request(call, request).await;
        self.prefixes.with(|addresses| match &answer {
            Ok(_) => addresses.confirm(&id),
            Err(_) => addresses.undo(&id),
        });
        answer
    }

    async fn close(
        &self,
        call: &mut Call,
        connection: Connection,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        let id = connection.id.clone();
        let closed = next.close(call, connection).await;
        self.prefixes.with(|addresses| addresses.free(&id));
        closed
    }

    async fn restore(
        &self,
        call: &mut Call,
        record: &Record<Connections>,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        let (id, mut item) = (record.item.id.clone(), record.item.clone());
        let context = item.context.get_or_insert_default();
        let ip = context.ip_context.get_or_insert_default();
        let again = self.prefixes.with(|addresses| {
            let again = addresses.allocate(&id, ip);
            addresses.confirm(&id);
            again
        });
        // The prefixes may be others since: the connection keeps what it has, and moves when it is
        // asked for again.
        if let Err(error) = again {
            tracing::warn!(id, %error, "the addresses of a connection are none of ours any more");
        }
        next.restore(call, record).await
    }
}
