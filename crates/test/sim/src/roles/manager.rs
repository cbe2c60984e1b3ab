//! A node's manager.

use std::sync::Arc;

use nsm_manager::{
    Config, Finder, Journals, Known, Locals, Seams, View, connections, elements::Forwarders,
    endpoints, services,
};
use nsm_registry::mirror::Mirror;
use nsm_rpc::monitor;

use super::{
    CONNECTIONS, ENDPOINTS, Ground, OWED, PEERS, REGISTRY, manager_socket, manager_url, target,
};
use crate::{
    keys::{Keys, roles, spiffe},
    net::{Served, ToRegistry},
    process::Process,
};

/// See the module.
#[derive(Debug)]
pub struct ManagerRole {
    /// What it is now.
    pub process: Arc<Process>,
    /// Its identity.
    pub keys: Arc<Keys>,
    /// Its connections.
    pub table: monitor::Connections,
}

impl ManagerRole {
    /// Starts it on a node.
    #[must_use]
    pub fn start(ground: &Ground, node: usize) -> Self {
        let name = format!("manager-{}", node + 1);
        let stand = ground.stand(&name, node);
        let url = manager_url(node);
        let served = stand.process.enter(|| {
            let way = ToRegistry::new(stand.end.clone(), target(REGISTRY));
            let mirror = Mirror::start(Arc::new(way.clone()));
            let locals = Arc::new(Locals::default());
            let view = View::new(mirror, Arc::clone(&locals), &url);
            let config = Config {
                name: name.clone(),
                url: url.clone(),
                forwarders: Forwarders {
                    service: "forwarder".to_owned(),
                    roles: roles(),
                },
                info: [("nodeName".to_owned(), format!("node-{}", node + 1))].into(),
            };
            let seams = Seams {
                drained: Default::default(),
                secret: stand.secret.clone(),
                tokens: stand.keys.clone(),
                transport: Arc::new(stand.end.clone()),
                directory: Arc::new(view.clone()),
                table: Arc::new(stand.table.clone()),
                journals: Journals {
                    connections: stand.journal(CONNECTIONS),
                    endpoints: stand.journal(ENDPOINTS),
                    peers: stand.noted(PEERS),
                    owed: stand.noted(OWED),
                },
                tasks: stand.tasks.clone(),
                known: Known::default(),
            };
            let finder = Arc::new(Finder {
                view,
                roles: roles(),
            });
            let registered = endpoints(&config, &seams, locals, Box::new(way.clone()));
            Arc::new(Served {
                id: spiffe(&name),
                connections: Some(connections(&config, &seams)),
                monitor: Some(stand.monitor()),
                services: Some((services(&config, &seams, Box::new(way)), finder.clone())),
                endpoints: Some((registered, finder)),
            })
        });
        let (net, process) = (ground.net.clone(), Arc::clone(&stand.process));
        let journals = stand.journals.clone();
        stand.process.spawn(async move {
            if let Some((chain, _)) = &served.endpoints {
                nsm_chain::restore(chain, journals.records(ENDPOINTS)).await;
            }
            if let Some(chain) = &served.connections {
                nsm_chain::restore(chain, journals.records(CONNECTIONS)).await;
            }
            net.listen(&url, &process, &served);
            net.listen(&manager_socket(node), &process, &served);
        });
        Self {
            process: stand.process,
            keys: stand.keys,
            table: stand.table,
        }
    }
}
