//! A client in a namespace of its own, with one connection.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nsm_chain::Error;
use nsm_model::mechanism;
use nsm_rpc::monitor;
use nsm_sdk::{Blind, Client, Liveness, Namespace, Order, Parts, Session};
use tokio_util::sync::CancellationToken;

use super::{Ground, manager_socket, target};
use crate::{
    keys::{Keys, roles},
    packets::Packets,
    process::Process,
    world::netns,
};

/// The longest that one attempt takes, as by default.
const PATIENCE: Duration = Duration::from_secs(15);

/// The name of every client's interface.
pub const INTERFACE: &str = "nsm-1";

/// See the module.
#[derive(Debug)]
pub struct ClientRole {
    /// What it is now.
    pub process: Arc<Process>,
    /// Its identity.
    pub keys: Arc<Keys>,
    /// What its watchers see.
    pub table: monitor::Connections,
    client: Client,
    order: Order,
    session: Arc<Mutex<Option<Session>>>,
    insisting: CancellationToken,
    closed: Arc<Mutex<Option<Result<(), Error>>>>,
}

/// Two clients of three can tell whether their packets flow; the third has nobody to ask.
#[must_use]
pub fn is_blind(name: &str) -> bool {
    name.bytes()
        .map(usize::from)
        .sum::<usize>()
        .is_multiple_of(3)
}

fn liveness(ground: &Ground, node: usize, namespace: &Namespace, name: &str) -> Arc<dyn Liveness> {
    if is_blind(name) {
        return Arc::new(Blind);
    }
    Arc::new(Packets {
        kernels: ground.kernels.clone(),
        net: ground.net.clone(),
        node,
        namespace: netns(namespace),
    })
}

impl ClientRole {
    /// Starts the client with this name, which insists on a connection to a service.
    ///
    /// # Panics
    /// Never: the interface's name is well formed.
    #[must_use]
    pub fn start(
        ground: &Ground,
        (name, node): (&str, usize),
        namespace: &Namespace,
        service: &str,
    ) -> Self {
        let stand = ground.stand(name, node);
        let parts = Parts {
            name: name.to_owned(),
            secret: stand.secret.clone(),
            tokens: stand.keys.clone(),
            transport: Arc::new(stand.end.clone()),
            manager: target(&manager_socket(node)),
            roles: roles(),
            namespace: namespace.clone(),
            table: Arc::new(stand.table.clone()),
            journal: None,
            liveness: liveness(ground, node, namespace, name),
            tasks: stand.tasks.clone(),
        };
        let kernel = mechanism::Kernel {
            netns: Some(namespace.inode),
            name: INTERFACE.parse().ok(),
            bare: false,
        };
        let order = Order {
            id: format!("{name}-0"),
            service: service.to_owned(),
            mechanisms: vec![kernel.mechanism()],
            ..Default::default()
        };
        let client = stand
            .process
            .enter(|| Client::new(&parts, Default::default(), PATIENCE));
        let role = Self {
            process: stand.process,
            keys: stand.keys,
            table: stand.table,
            client,
            order,
            session: Arc::default(),
            insisting: CancellationToken::new(),
            closed: Arc::default(),
        };
        role.insist();
        role
    }

    fn insist(&self) {
        let (client, order) = (self.client.clone(), self.order.clone());
        let (slot, stop) = (Arc::clone(&self.session), self.insisting.clone());
        self.process.spawn(async move {
            let session = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                session = client.insist(&order) => session,
            };
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
        });
    }

    /// Whether its connection was granted.
    #[must_use]
    pub fn connected(&self) -> bool {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.is_some()
    }

    /// Lets its connection go; what became of it is told by [`ClientRole::closed`].
    pub fn close(&self) {
        self.insisting.cancel();
        let session = self
            .session
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (client, order) = (self.client.clone(), self.order.clone());
        let closed = Arc::clone(&self.closed);
        self.process.spawn(async move {
            let done = match session {
                Some(session) => session.close().await,
                None => client.abandon(&order).await,
            };
            *closed.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        });
    }

    /// What became of its close, once that has been answered.
    #[must_use]
    pub fn closed(&self) -> Option<Result<(), Error>> {
        self.closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
