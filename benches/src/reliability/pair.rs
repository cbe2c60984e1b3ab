//! An endpoint, a client of it, and a flow between them.

use std::time::Duration;

use anyhow::bail;
use nsm_lab::measure::{FlowReport, RATE, UdpFlow, receive_drops};
use nsm_lab::mesh::Workload;

use crate::town::{ECHO, INTERFACE, Service, Town, end};

/// How long the first packet may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Pair {
    pub client: Workload,
    pub flow: UdpFlow,
    endpoint: Workload,
    index: u32,
}

impl Pair {
    /// An endpoint on a node, a client of it on the first.
    pub(crate) fn new(town: &Town, at: usize, service: &Service) -> anyhow::Result<Self> {
        let endpoint = town.endpoint(at, &format!("nse-{}", service.name), service, &[])?;
        let client = town.client(0, &format!("nsc-{}", service.name), service, "")?;
        let flow = flow(&client, service)?;
        let index = client.pod.cell().link_index(INTERFACE)?;
        Ok(Self {
            client,
            flow,
            endpoint,
            index,
        })
    }

    /// Whether the interface is the one that it was: 0, or 1 if it is another or none.
    pub(crate) fn changed(&self) -> f64 {
        let now = self.client.pod.cell().link_index(INTERFACE).ok();
        f64::from(u8::from(now != Some(self.index)))
    }

    /// What the echo server's and the flow's sockets dropped because this machine was busy.
    pub(crate) fn drops(&self, seen: &FlowReport) -> anyhow::Result<u64> {
        let server = receive_drops(self.endpoint.pod.cell(), ECHO)?;
        Ok(server + seen.receive_drops)
    }

    pub(crate) fn end(self) {
        drop(self.flow);
        end(&self.client);
        end(&self.endpoint);
    }
}

/// A flow to the service's address, packets passing already.
pub(crate) fn flow(client: &Workload, service: &Service) -> anyhow::Result<UdpFlow> {
    let flow = UdpFlow::start(client.pod.cell(), service.address(), RATE)?;
    if !flow.wait_answer(flow.now(), PATIENCE) {
        bail!("no packet passes from {}", client.pod.name());
    }
    Ok(flow)
}
