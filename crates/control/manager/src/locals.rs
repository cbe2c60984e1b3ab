//! The endpoints and forwarders of this node, and how each is reached.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::{Code, Error, Target};
use nsm_model::{
    spiffe::SpiffeId,
    url::{EndpointUrl, InodeUrl},
};
use tokio::{
    sync::watch,
    time::{Duration, Instant, timeout_at},
};

/// How long after a start endpoints of before are waited for.
const RETURN: Duration = Duration::from_secs(2);

/// One of them.
#[derive(Debug, Clone)]
pub struct Local {
    /// As it registered: with its own URL.
    pub endpoint: NetworkServiceEndpoint,
    /// Who registered it.
    pub owner: Option<SpiffeId>,
    /// The descriptor of its socket, where that is how it is reached.
    pub socket: Option<(InodeUrl, Arc<OwnedFd>)>,
}

impl Local {
    /// Whether it can only be reached by a socket that has not come yet.
    pub(crate) fn is_awaited(&self) -> bool {
        let url = EndpointUrl::parse(&self.endpoint.url);
        self.socket.is_none() && matches!(url, EndpointUrl::Inode(_))
    }

    /// Where it is reached from this process.
    ///
    /// # Errors
    /// Its URL is none that anybody here can go to.
    pub fn target(&self) -> Result<Target, Error> {
        if let Some((inode, socket)) = &self.socket {
            return Ok(Target::Socket(*inode, Arc::clone(socket)));
        }
        match EndpointUrl::parse(&self.endpoint.url) {
            url @ (EndpointUrl::Tcp { .. } | EndpointUrl::Unix(_)) => Ok(Target::Url(url)),
            EndpointUrl::Inode(_) | EndpointUrl::Other(_) => {
                let Self { endpoint, .. } = self;
                let message = format!(
                    "endpoint {}: nobody here can go to its URL {:?}",
                    endpoint.name, endpoint.url
                );
                Err(Error::new(Code::Unimplemented, message))
            }
        }
    }
}

/// All of them, by name.
#[derive(Debug)]
pub struct Locals {
    table: Mutex<BTreeMap<String, Local>>,
    came: watch::Sender<()>,
    since: Instant,
}

impl Default for Locals {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            came: watch::Sender::new(()),
            since: Instant::now(),
        }
    }
}

impl Locals {
    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Local>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One is new, or registered again.
    pub fn insert(&self, local: Local) {
        self.table().insert(local.endpoint.name.clone(), local);
        self.came.send_replace(());
    }

    /// Waits until what was local before our restart can be reached again: its connection to us was
    /// lost, so it registers again at once. Nobody waits for long, and only after a start.
    pub(crate) async fn returned(&self, deadline: Instant) {
        let patience = deadline.min(self.since + RETURN);
        let mut came = self.came();
        while Instant::now() < patience && self.table().values().any(Local::is_awaited) {
            if timeout_at(patience, came.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Changes whenever one is inserted.
    pub(crate) fn came(&self) -> watch::Receiver<()> {
        self.came.subscribe()
    }

    /// One has gone.
    pub fn remove(&self, name: &str) {
        self.table().remove(name);
    }

    /// The one with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Local> {
        self.table().get(name).cloned()
    }

    /// Those that offer a service.
    #[must_use]
    pub fn offering(&self, service: &str) -> Vec<Local> {
        let offers = |local: &&Local| {
            local
                .endpoint
                .network_service_names
                .iter()
                .any(|name| name == service)
        };
        self.table().values().filter(offers).cloned().collect()
    }
}
