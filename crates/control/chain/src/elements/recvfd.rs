//! `recvfd`: the descriptors that a request's mechanisms speak of are taken in.
//!
//! *What it does*: waits for the descriptor of every `inodeURL` parameter (sdk
//! `pkg/networkservice/common/mechanisms/recvfd`), which the caller sends beside its call, and
//! keeps it for the elements further down. The message keeps saying `inode://`.
//! *Where it stands*: after `authorize`; before whatever enters a namespace or passes one on.
//! *On Close*: nothing: a Close brings no descriptors.

use std::{collections::BTreeMap, os::fd::OwnedFd, sync::Arc, time::Duration};

use async_trait::async_trait;
use nsm_api::{
    connection::{Connection, Mechanism},
    networkservice::NetworkServiceRequest,
};
use nsm_model::{mechanism::keys::INODE_URL, url::InodeUrl};
use tokio::time::Instant;

use crate::{Call, Caller, Code, Connections, Element, Error, Next};

/// How long a descriptor may come after its call: it is sent before it, so this is for a busy
/// machine only. A descriptor that never comes is an error, not a hang.
const ARRIVAL: Duration = Duration::from_secs(1);

/// The most descriptors that one request may bring: a mechanism has one, and nobody has so many
/// preferences.
const MAX_DESCRIPTORS: usize = 16;

/// Descriptors by inode, as long as the call takes.
#[derive(Debug, Clone, Default)]
pub struct Held(BTreeMap<InodeUrl, Arc<OwnedFd>>);

impl Held {
    /// The descriptors that came with the call in hand.
    #[must_use]
    pub fn of(call: &Call) -> Self {
        call.scratch.get().unwrap_or_default()
    }

    /// Keeps one more.
    pub fn hold(call: &Call, inode: InodeUrl, descriptor: OwnedFd) {
        Self::share(call, inode, Arc::new(descriptor));
    }

    /// Keeps one that others hold as well.
    pub fn share(call: &Call, inode: InodeUrl, descriptor: Arc<OwnedFd>) {
        let mut held = Self::of(call);
        held.0.insert(inode, descriptor);
        call.scratch.put(held);
    }

    /// The descriptor of an inode.
    #[must_use]
    pub fn get(&self, inode: InodeUrl) -> Option<Arc<OwnedFd>> {
        self.0.get(&inode).cloned()
    }
}

/// The inode that a mechanism speaks of.
#[must_use]
pub fn inode(mechanism: &Mechanism) -> Option<InodeUrl> {
    mechanism.parameters.get(INODE_URL)?.parse().ok()
}

/// Every inode that a request's mechanisms speak of.
#[must_use]
pub fn inodes(request: &NetworkServiceRequest) -> Vec<InodeUrl> {
    let mut inodes: Vec<InodeUrl> = request
        .mechanism_preferences
        .iter()
        .chain(request.connection.mechanism.as_option())
        .filter_map(inode)
        .collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct RecvFd;

/// Until when a descriptor that was spoken of may still come.
pub(super) fn arrival(call: &Call) -> Instant {
    call.deadline.min(Instant::now() + ARRIVAL)
}

async fn receive(call: &Call, caller: &Caller, inode: InodeUrl, id: &str) -> Result<(), Error> {
    let descriptor = caller.descriptors.receive(inode, arrival(call)).await.map_err(|error| {
        let message = format!(
            "connection {id}: mechanism parameter inodeURL={inode}: {error}; the caller must send that \
             descriptor over the unix socket that it calls through"
        );
        Error::new(Code::InvalidArgument, message)
    })?;
    Held::hold(call, inode, descriptor);
    Ok(())
}

#[async_trait]
impl Element<Connections> for RecvFd {
    fn name(&self) -> &'static str {
        "recvfd"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        if let Some(caller) = call.caller.clone() {
            let inodes = inodes(&request);
            if inodes.len() > MAX_DESCRIPTORS {
                let message = format!(
                    "connection {}: its mechanisms name {} descriptors, at most {MAX_DESCRIPTORS} are taken",
                    request.connection.id,
                    inodes.len()
                );
                return Err(Error::new(Code::InvalidArgument, message));
            }
            // A refresh speaks of what we answered: our own namespace need not come.
            let own = Held::of(call);
            for inode in inodes.into_iter().filter(|inode| own.get(*inode).is_none()) {
                receive(call, &caller, inode, &request.connection.id).await?;
            }
        }
        let answer = next.request(call, request).await;
        // A descriptor keeps a namespace alive: none outlives its call.
        call.scratch.take::<Held>();
        answer
    }
}
