//! A node's forwarder, on the node's model kernel.

use std::{sync::Arc, time::Duration};

use nsm_api::registry::{NetworkServiceEndpoint, NetworkServiceLabels};
use nsm_forwarder::{Config, Forwarder, Parts};
use nsm_rpc::monitor;
use nsm_sdk::{Offer, Registration};
use tokio::sync::mpsc;

use super::{CONNECTIONS, Ground, OWED, PEERS, manager_socket, target};
use crate::{
    kernel::Handle,
    keys::{Keys, roles, spiffe},
    net::{ManagerEnd, Served},
    process::Process,
    ways::Ways,
};

/// Events of the kernel that may wait: as many as the real listener's.
const MAX_GONE: usize = 1024;
/// How often counters are read, as by default.
const METER_EVERY: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct ForwarderRole {
    /// What it is now.
    pub process: Arc<Process>,
    /// Its identity.
    pub keys: Arc<Keys>,
    /// Its connections.
    pub table: monitor::Connections,
    /// The role.
    pub forwarder: Forwarder,
}

/// An endpoint's record.
pub(crate) fn record(name: &str, url: &str, service: &str) -> NetworkServiceEndpoint {
    NetworkServiceEndpoint {
        name: name.to_owned(),
        url: url.to_owned(),
        network_service_names: vec![service.to_owned()],
        network_service_labels: [(service.to_owned(), NetworkServiceLabels::default())].into(),
        ..Default::default()
    }
}

impl ForwarderRole {
    /// Starts it on a node.
    #[must_use]
    pub fn start(ground: &Ground, node: usize) -> Self {
        let name = format!("forwarder-{}", node + 1);
        let stand = ground.stand(&name, node);
        let kernel = ground.kernels[node].clone();
        let url = format!("unix:///run/{}/forwarder.sock", node + 1);
        let (send, gone) = mpsc::channel(MAX_GONE);
        kernel.listen(send);
        let config = Config {
            name: name.clone(),
            tunnel_ip: kernel.address,
            vxlan_port: 4789,
            underlay_mtu: 1500,
            require_encryption: false,
        };
        let manager = ManagerEnd::new(stand.end.clone(), target(&manager_socket(node)));
        let handle = Handle::new(kernel, Arc::clone(&stand.process), ground.chance.clone());
        let parts = Parts {
            secret: stand.secret.clone(),
            tokens: stand.keys.clone(),
            transport: Arc::new(stand.end.clone()),
            directory: Arc::new(manager.clone()),
            kernel: Arc::new(handle),
            roles: roles(),
            table: Arc::new(stand.table.clone()),
            journal: stand.journal(CONNECTIONS),
            peers: stand.noted(PEERS),
            owed: stand.noted(OWED),
            tasks: stand.tasks.clone(),
        };
        let forwarder = stand.process.enter(|| {
            let forwarder = Forwarder::new(&config, &parts);
            forwarder.attend(&config, &parts, gone, METER_EVERY);
            let ways = Ways {
                node,
                kernels: ground.kernels.clone(),
                net: ground.net.clone(),
            };
            forwarder.probe(&parts, Arc::new(ways));
            forwarder
        });
        let served = Arc::new(Served {
            id: spiffe(&name),
            connections: Some(forwarder.chain.clone()),
            monitor: Some(stand.monitor()),
            services: None,
            endpoints: None,
        });
        let (net, process) = (ground.net.clone(), Arc::clone(&stand.process));
        let (journals, keys) = (stand.journals.clone(), stand.keys.clone());
        let role = forwarder.clone();
        stand.process.spawn(async move {
            let records = journals.records(CONNECTIONS);
            let restored = nsm_chain::restore(&role.chain, records).await;
            if restored.unreadable == 0 {
                role.sweep(&parts);
            }
            net.listen(&url, &process, &served);
            let offer = Offer {
                services: Vec::new(),
                endpoint: record(&name, &url, "forwarder"),
            };
            let _registration = Registration::keep(Arc::new(manager), keys, offer);
            std::future::pending::<()>().await;
        });
        Self {
            process: stand.process,
            keys: stand.keys,
            table: stand.table,
            forwarder,
        }
    }
}
