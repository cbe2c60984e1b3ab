//! Whether packets flow, as a process in a namespace can tell: it asks the model kernels.

use std::time::Duration;

use async_trait::async_trait;
use nsm_api::connection::Connection;
use nsm_plan::NetnsId;
use nsm_sdk::{Flow, Liveness};
use tokio::time::sleep;

use crate::{
    kernel::{Kernel, reach},
    net::Net,
    roles::INTERFACE,
};

/// How often every connection is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How long an echo takes to come, or to be missed.
const ECHO: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(600));

/// See the module.
#[derive(Debug, Clone)]
pub struct Packets {
    /// Every node's kernel.
    pub kernels: Vec<Kernel>,
    /// The wires between the nodes, which carry tunnels too.
    pub net: Net,
    /// The own node.
    pub node: usize,
    /// The own namespace.
    pub namespace: NetnsId,
}

impl Packets {
    fn flow(&self) -> bool {
        let reached = reach(&self.kernels, self.node, self.namespace, INTERFACE);
        reached.is_some_and(|reached| {
            let far = reached.links.last().map_or(self.node, |(node, _)| *node);
            !self.net.are_apart(self.node, far)
        })
    }
}

#[async_trait]
impl Liveness for Packets {
    fn every(&self) -> Option<Duration> {
        Some(EVERY)
    }

    async fn look(&self, connection: &Connection) -> Flow {
        self.ask(connection).await
    }

    async fn ask(&self, _: &Connection) -> Flow {
        let flows = self.flow();
        sleep(if flows { ECHO.0 } else { ECHO.1 }).await;
        if flows { Flow::Flows } else { Flow::Silent }
    }

    fn forget(&self, _: &str) {}
}
