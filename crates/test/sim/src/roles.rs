//! The real roles, each started as a process of a run: only what they stand on is the run's.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nsm_chain::{Journal, Noted, Target, Tasks};
use nsm_model::{ids::Secret, url::EndpointUrl};
use nsm_policy::roles::Role;
use nsm_rpc::monitor;

use crate::{
    chance::Chance,
    clock::Clock,
    journal::Journals,
    kernel::Kernel,
    keys::{Checked, Keys, roles},
    log::Log,
    net::{Caller, End, Net},
    process::Process,
};

mod client;
mod endpoint;
mod forwarder;
mod manager;
mod registry;

pub use client::{ClientRole, INTERFACE, is_blind};
pub use endpoint::EndpointRole;
pub use forwarder::ForwarderRole;
pub use manager::ManagerRole;
pub use registry::RegistryRole;

/// What all processes of a run stand on.
#[derive(Debug, Clone)]
pub struct Ground {
    /// What happened.
    pub log: Log,
    /// The wires.
    pub net: Net,
    /// Chance of what has no cause of its own.
    pub chance: Chance,
    /// Checked tokens.
    pub checked: Checked,
    /// How long tokens live, and so leases.
    pub life: Duration,
    /// The wall clock of each node.
    pub clocks: Vec<Clock>,
    /// The kernel of each node.
    pub kernels: Vec<Kernel>,
    /// What each hop has written down, by its name.
    pub disks: Arc<Mutex<BTreeMap<String, Journals>>>,
}

/// The journal of connections.
pub(crate) const CONNECTIONS: &str = "connections";
/// The journal of a manager's endpoints.
pub(crate) const ENDPOINTS: &str = "endpoints";
/// The journal of the hops that a role has asked.
pub(crate) const PEERS: &str = "peers";
/// The journal of the closes that a role owes.
pub(crate) const OWED: &str = "owed";

/// One process and what it stands on.
#[derive(Debug, Clone)]
pub(crate) struct Stand {
    pub(crate) process: Arc<Process>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) end: End,
    pub(crate) table: monitor::Connections,
    pub(crate) tasks: Tasks,
    pub(crate) secret: Secret,
    pub(crate) journals: Journals,
    chance: Chance,
}

impl Ground {
    /// What the hop with this name has written down.
    #[must_use]
    pub fn journals(&self, name: &str) -> Journals {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        disks.entry(name.to_owned()).or_default().clone()
    }

    /// A pod's disk is gone with it.
    pub fn forget(&self, name: &str) {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        disks.remove(name);
    }

    /// How many records each hop has.
    #[must_use]
    pub fn records(&self) -> Vec<(String, usize)> {
        let disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        let count =
            |(name, journals): (&String, &Journals)| (name.clone(), journals.of(CONNECTIONS));
        disks.iter().map(count).collect()
    }

    pub(crate) fn stand(&self, name: &str, node: usize) -> Stand {
        let process = Process::new(name, node);
        let clock = self.clocks[node].clone();
        let keys = Keys::new(name, clock, self.life, Arc::clone(&self.checked));
        let caller = Caller {
            process: Arc::clone(&process),
            keys: Arc::clone(&keys),
            net: self.net.clone(),
        };
        self.log.mark(format_args!("start {name}"));
        Stand {
            process,
            keys,
            end: End::new(caller),
            table: monitor::Connections::new(),
            tasks: Tasks::new(),
            secret: secret(name),
            journals: self.journals(name),
            chance: self.chance.clone(),
        }
    }
}

impl Stand {
    /// One of its journals.
    pub(crate) fn journal(&self, table: &'static str) -> Option<Arc<dyn Journal>> {
        Some(self.journals.open(table, &self.process, &self.chance))
    }

    /// The records of a kind, of before and from now on.
    pub(crate) fn noted(&self, table: &'static str) -> Noted {
        Noted {
            journal: self.journal(table),
            known: self.journals.records(table),
        }
    }

    /// Who watches the connections of this process.
    pub(crate) fn monitor(&self) -> monitor::Service {
        let roles = roles();
        monitor::Service::new(self.table.clone(), move |caller| {
            roles.current().holds(Role::Operator, caller)
        })
    }
}

fn secret(name: &str) -> Secret {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    Secret::new(bytes)
}

/// Where a role is reached.
#[must_use]
pub fn target(url: &str) -> Target {
    Target::Url(EndpointUrl::parse(url))
}

/// The registry's address.
pub const REGISTRY: &str = "tcp://10.0.0.100:5002";

/// A manager's address for other nodes.
#[must_use]
pub fn manager_url(node: usize) -> String {
    format!("tcp://10.0.0.{}:5001", node + 1)
}

/// A manager's address on its own node.
#[must_use]
pub fn manager_socket(node: usize) -> String {
    format!("unix:///run/{}/manager.sock", node + 1)
}
