//! A client's list, and the connections that it keeps.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use buffa::MessageField;
use nsm_api::{
    connection::{Connection, Mechanism, Path, PathSegment},
    connectioncontext::ConnectionContext,
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Backoff, Call, Chain, Connections, Error,
    begin::Begin,
    elements::{Answers, ClientInfo, Connect, UpdatePath},
};
use tokio::time::Instant;

use crate::{
    Parts,
    elements::{Heal, Refresh, SendFd, ToManager},
};

/// Waits between attempts at a first request.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What a client asks for.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// The connection's id: stable, so that a restarted client means the same connection.
    pub id: String,
    /// The service, with its domain if it has one.
    pub service: String,
    /// How the client can be reached, best first.
    pub mechanisms: Vec<Mechanism>,
    /// What the service's matches see.
    pub labels: BTreeMap<String, String>,
    /// Addresses to keep, prefixes to avoid.
    pub context: ConnectionContext,
}

/// A client.
#[derive(Debug, Clone)]
pub struct Client {
    chain: Chain<Connections>,
    name: String,
    patience: Duration,
}

/// A connection that a client keeps: refreshed and healed until it is closed.
#[derive(Debug)]
pub struct Session {
    client: Client,
    connection: Connection,
}

impl Client {
    /// The role. `info` are labels that say where it runs; one attempt may take `patience`.
    #[must_use]
    pub fn new(parts: &Parts, info: BTreeMap<String, String>, patience: Duration) -> Self {
        let Parts {
            name,
            secret,
            tokens,
            transport,
            manager,
            roles,
            namespace,
            table,
            liveness,
            tasks,
            ..
        } = parts.clone();
        let chain = Chain::new(vec![
            // Our own segment is the first.
            Box::new(UpdatePath::new(
                name.clone(),
                secret,
                tokens.own_id(),
                roles.clone(),
            )),
            // One at a time for each connection.
            Box::new(Begin::new(tasks.clone())),
            // Before it expires, again.
            Box::new(Refresh::new(tokens.clone(), tasks.clone(), patience)),
            // What is lost further on is replaced.
            Box::new(Heal::new(
                &name,
                Arc::clone(&transport),
                table,
                tasks.clone(),
                patience,
                liveness,
            )),
            // Where we run.
            Box::new(ClientInfo::new(info)),
            // Our namespace goes with it.
            Box::new(SendFd::new(namespace)),
            // To our manager.
            Box::new(ToManager::new(manager, &roles)),
            // There.
            Box::new(Connect::new(transport, tasks).authorized(Answers::new(tokens))),
        ]);
        Self {
            chain,
            name,
            patience,
        }
    }

    /// The names of its elements, in request order.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.chain.names()
    }

    /// Asks once.
    ///
    /// # Errors
    /// The first cause, from whichever hop refused.
    pub async fn request(&self, order: &Order) -> Result<Session, Error> {
        let mut call = Call::local(Instant::now() + self.patience);
        let connection = self.chain.request(&mut call, self.first(order)).await?;
        Ok(Session {
            client: self.clone(),
            connection,
        })
    }

    /// Asks until it is granted, with longer and longer waits. Dropping the future stops it; what
    /// had been granted by then is closed by [`Client::abandon`].
    pub async fn insist(&self, order: &Order) -> Session {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            match self.request(order).await {
                Ok(session) => return session,
                Err(error) => {
                    let wait = backoff.after(&error);
                    tracing::warn!(id = order.id, service = order.service, %error, ?wait, "request failed");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Closes what an order may have got although nobody waited for its answer.
    ///
    /// # Errors
    /// Every failure on the way, joined.
    pub async fn abandon(&self, order: &Order) -> Result<(), Error> {
        let mut request = self.first(order);
        let connection = request.connection.take().unwrap_or_default();
        self.close(connection).await
    }

    fn first(&self, order: &Order) -> NetworkServiceRequest {
        let segment = PathSegment {
            name: self.name.clone(),
            id: order.id.clone(),
            ..Default::default()
        };
        let connection = Connection {
            id: order.id.clone(),
            network_service: order.service.clone(),
            labels: order.labels.clone(),
            context: MessageField::some(order.context.clone()),
            path: MessageField::some(Path {
                path_segments: vec![segment],
                ..Default::default()
            }),
            ..Default::default()
        };
        NetworkServiceRequest {
            connection: MessageField::some(connection),
            mechanism_preferences: order.mechanisms.clone(),
            ..Default::default()
        }
    }

    async fn close(&self, connection: Connection) -> Result<(), Error> {
        let mut call = Call::local(Instant::now() + self.patience);
        self.chain.close(&mut call, connection).await
    }
}

impl Session {
    /// The connection as it was first granted.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Lets the connection go.
    ///
    /// # Errors
    /// Every failure on the way, joined.
    pub async fn close(self) -> Result<(), Error> {
        self.client.close(self.connection).await
    }
}
