//! The ways between nodes, as a forwarder asks whether they carry packets.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use async_trait::async_trait;
use nsm_forwarder::Probe;
use tokio::time::sleep;

use crate::{kernel::Kernel, net::Net};

/// How long an answer takes.
const ECHO: Duration = Duration::from_millis(1);

/// See the module: a node's kernel answers, whether its forwarder runs or not.
#[derive(Debug)]
pub struct Ways {
    /// The own node.
    pub node: usize,
    /// Every node's kernel.
    pub kernels: Vec<Kernel>,
    /// The wires between them.
    pub net: Net,
}

#[async_trait]
impl Probe for Ways {
    async fn ask(
        &self,
        peers: &BTreeSet<IpAddr>,
        wait: Duration,
    ) -> Result<BTreeSet<IpAddr>, String> {
        let heard = |kernel: &&Kernel| {
            peers.contains(&kernel.address) && !self.net.are_apart(self.node, kernel.node)
        };
        let answers: BTreeSet<_> = self
            .kernels
            .iter()
            .filter(heard)
            .map(|one| one.address)
            .collect();
        sleep(if answers.len() == peers.len() {
            ECHO
        } else {
            wait
        })
        .await;
        Ok(answers)
    }
}
