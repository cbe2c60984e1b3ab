//! Clients and endpoints of a mesh, as a library.
//!
//! A [`Client`] asks for connections and keeps them; an [`Endpoint`] offers a service. Both are
//! lists of elements; a third party adds its own. Nothing here knows a command line or the
//! environment: everything comes in through the constructors.

#![forbid(unsafe_code)]

mod bridges;
mod client;
pub mod elements;
mod endpoint;
mod handover;
mod healer;
mod liveness;
mod registration;

pub use bridges::Bridges;
pub use client::{Client, Order, Session};
pub use endpoint::{Endpoint, Kind};
pub use liveness::{Blind, Flow, Liveness};
pub use registration::{Offer, Registration};

use std::{os::fd::OwnedFd, sync::Arc};

use nsm_chain::{Journal, Target, Tasks, Tokens, Transport, elements::Table};
use nsm_model::{ids::Secret, url::InodeUrl};
use nsm_policy::roles::RoleSource;

/// The network namespace that a client or an endpoint lives in.
#[derive(Debug, Clone)]
pub struct Namespace {
    /// Its inode, as mechanisms say it.
    pub inode: InodeUrl,
    /// A descriptor of it, which the forwarder gets.
    pub descriptor: Arc<OwnedFd>,
}

/// What a client or an endpoint stands on.
#[derive(Clone)]
pub struct Parts {
    /// Its stable name.
    pub name: String,
    /// Derives connection ids.
    pub secret: Secret,
    /// Makes and checks tokens.
    pub tokens: Arc<dyn Tokens>,
    /// Reaches the manager.
    pub transport: Arc<dyn Transport>,
    /// Where the node's manager is.
    pub manager: Target,
    /// The roles in force: who may be that manager, and who may call.
    pub roles: RoleSource,
    /// The own namespace.
    pub namespace: Namespace,
    /// What watchers see.
    pub table: Arc<dyn Table>,
    /// Asks the data paths of our connections.
    pub liveness: Arc<dyn Liveness>,
    /// Where an endpoint writes down what was agreed; without one a restart begins with nothing.
    pub journal: Option<Arc<dyn Journal>>,
    /// Owns what runs in the background.
    pub tasks: Tasks,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parts({})", self.name)
    }
}
