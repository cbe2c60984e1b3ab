//! The registry, with a store that outlives it.

use std::{sync::Arc, time::Duration};

use nsm_registry::{
    Config, Registry,
    chain::{self, Parts},
    serve::Finder,
};

use super::{Ground, REGISTRY};
use crate::{
    disk::Disk,
    keys::{roles, spiffe},
    net::Served,
    process::Process,
};

/// How long an endpoint lives that is not registered again.
const LIFETIME: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct RegistryRole {
    /// What it is now.
    pub process: Arc<Process>,
    /// Its store.
    pub disk: Disk,
}

impl RegistryRole {
    /// Starts it on a node.
    #[must_use]
    pub fn start(ground: &Ground, node: usize, disk: Disk) -> Self {
        let stand = ground.stand("registry", node);
        let process = Arc::clone(&stand.process);
        let (clock, net) = (ground.clocks[node].clone(), ground.net.clone());
        let store = disk.open(&process);
        let log = ground.log.clone();
        let begun = async move {
            let opened = Registry::open(store, Arc::new(clock), Config::default()).await;
            let registry = match opened {
                Ok(registry) => registry,
                Err(error) => {
                    log.mark(format_args!("the registry does not open: {error}"));
                    return;
                }
            };
            let parts = Parts {
                registry: registry.clone(),
                tokens: stand.keys.clone(),
                tasks: stand.tasks.clone(),
                lifetime: LIFETIME,
                roles: roles(),
            };
            let finder = Arc::new(Finder(registry));
            let served = Arc::new(Served {
                id: spiffe("registry"),
                connections: None,
                monitor: None,
                services: Some((chain::services(&parts), finder.clone())),
                endpoints: Some((chain::endpoints(&parts), finder)),
            });
            net.listen(REGISTRY, &stand.process, &served);
            // It stands for as long as its process.
            std::future::pending::<()>().await;
            drop(parts);
        };
        process.spawn(begun);
        Self { process, disk }
    }
}
