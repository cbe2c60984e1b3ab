//! An endpoint in a namespace of its own.

use std::sync::Arc;

use nsm_api::registry::NetworkService;
use nsm_model::ipam::PointToPoint;
use nsm_rpc::monitor;
use nsm_sdk::{Endpoint, Kind, Namespace, Offer, Parts, Registration, elements::Prefixes};

use super::{CONNECTIONS, Ground, forwarder::record, manager_socket, target};
use crate::{
    keys::{Keys, roles, spiffe},
    net::{ManagerEnd, Served},
    process::Process,
};

/// See the module.
#[derive(Debug)]
pub struct EndpointRole {
    /// What it is now.
    pub process: Arc<Process>,
    /// Its identity.
    pub keys: Arc<Keys>,
    /// Its connections.
    pub table: monitor::Connections,
    /// Its addresses.
    pub prefixes: Prefixes,
}

impl EndpointRole {
    /// Starts the endpoint with this name, which offers a service and has these addresses.
    ///
    /// # Panics
    /// The prefix is none.
    #[must_use]
    pub fn start(
        ground: &Ground,
        (name, node): (&str, usize),
        namespace: &Namespace,
        service: &str,
        prefix: &str,
    ) -> Self {
        let stand = ground.stand(name, node);
        let url = format!("unix:///run/{}/{name}.sock", node + 1);
        let manager = target(&manager_socket(node));
        let prefixes = prefix
            .parse()
            .ok()
            .and_then(|prefix| PointToPoint::new(&[vec![prefix]]).ok());
        let Some(prefixes) = prefixes.map(Prefixes::new) else {
            panic!("{prefix} is no prefix");
        };
        let kind = Kind::Terminal {
            prefixes: prefixes.clone(),
            routes: Vec::new(),
            dns: Vec::new(),
            mtu: 0,
        };
        let parts = Parts {
            name: name.to_owned(),
            secret: stand.secret.clone(),
            tokens: stand.keys.clone(),
            transport: Arc::new(stand.end.clone()),
            manager: manager.clone(),
            roles: roles(),
            namespace: namespace.clone(),
            table: Arc::new(stand.table.clone()),
            journal: stand.journal(CONNECTIONS),
            liveness: Arc::new(nsm_sdk::Blind),
            tasks: stand.tasks.clone(),
        };
        let offer = Offer {
            services: vec![NetworkService {
                name: service.to_owned(),
                payload: "ETHERNET".to_owned(),
                ..Default::default()
            }],
            endpoint: record(name, &url, service),
        };
        let registrar = Arc::new(ManagerEnd::new(stand.end.clone(), manager));
        let endpoint = stand
            .process
            .enter(|| Endpoint::new(&parts, kind, Vec::new()));
        let served = Arc::new(Served {
            id: spiffe(name),
            connections: Some(endpoint.chain),
            monitor: Some(stand.monitor()),
            services: None,
            endpoints: None,
        });
        let (net, process) = (ground.net.clone(), Arc::clone(&stand.process));
        let (journals, keys) = (stand.journals.clone(), stand.keys.clone());
        stand.process.spawn(async move {
            if let Some(chain) = &served.connections {
                nsm_chain::restore(chain, journals.records(CONNECTIONS)).await;
            }
            net.listen(&url, &process, &served);
            let _registration = Registration::keep(registrar, keys, offer);
            std::future::pending::<()>().await;
        });
        Self {
            process: stand.process,
            keys: stand.keys,
            table: stand.table,
            prefixes,
        }
    }
}
