//! The floor: the same links, addresses and routes by direct calls, without a control plane.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use anyhow::Context as _;
use nsm_kernel::{Executor, NetnsFd};
use nsm_lab::{Node, Pod};
use nsm_model::{
    context::mac_for,
    mechanism::{Mtu, Vni},
};
use nsm_plan::{KernelSide, KeyDigest, NetnsId, Plan, Side, VxlanSide, cross_connect};

use crate::client::milliseconds;

/// Not the mesh's port: its VNIs are its own.
const PORT: u16 = 4790;
/// Ethernet's MTU, and what a VXLAN device over it has.
const MTUS: (u32, u32) = (1500, 1450);

/// Two pods and the nodes that they are on.
pub(crate) struct Floor {
    executors: [Executor; 2],
    pods: BTreeMap<NetnsId, NetnsFd>,
    ids: [NetnsId; 2],
    addresses: [IpAddr; 2],
    /// On one node: a pair; across two: a tunnel.
    across: bool,
}

impl Floor {
    /// Between a client's pod and an endpoint's.
    pub(crate) fn new(nodes: [&Node; 2], pods: [&Pod; 2]) -> anyhow::Result<Self> {
        let executor = |node: &Node| -> anyhow::Result<Executor> {
            let netns = NetnsFd::open(&node.cell().network_path())?;
            Executor::within(&netns, "floor").context("the floor's executor")
        };
        let open = |pod: &Pod| NetnsFd::open(&pod.cell().network_path());
        let (client, endpoint) = (open(pods[0])?, open(pods[1])?);
        Ok(Self {
            executors: [executor(nodes[0])?, executor(nodes[1])?],
            ids: [client.id(), endpoint.id()],
            pods: BTreeMap::from([(client.id(), client), (endpoint.id(), endpoint)]),
            addresses: nodes.map(|node| node.addresses().v4.into()),
            across: nodes[0].name() != nodes[1].name(),
        })
    }

    /// Makes and takes away connection `number`: milliseconds of both.
    pub(crate) fn connect(&self, number: u32) -> anyhow::Result<(f64, f64)> {
        let plans = self.plans(number)?;
        let began = Instant::now();
        // The far end first, as forwarders do.
        for (executor, plan) in plans.iter().rev() {
            executor.apply(plan, &self.pods)?;
        }
        let opened = milliseconds(began);
        let began = Instant::now();
        for (executor, plan) in &plans {
            executor.undo(plan)?;
        }
        Ok((opened, milliseconds(began)))
    }

    /// What each node has to do, the client's first.
    fn plans(&self, number: u32) -> anyhow::Result<Vec<(&Executor, Plan)>> {
        let mut key = [0xb; 16];
        key[..4].copy_from_slice(&number.to_be_bytes());
        // Not the same bytes for every link: indices are made of them.
        key[4..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
        let key = KeyDigest(key);
        let (client, endpoint) = (self.side(0, number)?, self.side(1, number)?);
        if !self.across {
            let plan = cross_connect(key, &client, &endpoint)?;
            return Ok(vec![(&self.executors[0], plan)]);
        }
        let tunnel = |from: usize| -> anyhow::Result<Side> {
            Ok(Side::Vxlan(VxlanSide {
                local: self.addresses[from],
                remote: self.addresses[1 - from],
                port: PORT,
                vni: Vni::new(number + 1)?,
            }))
        };
        Ok(vec![
            (
                &self.executors[0],
                cross_connect(key, &client, &tunnel(0)?)?,
            ),
            (
                &self.executors[1],
                cross_connect(key, &tunnel(1)?, &endpoint)?,
            ),
        ])
    }

    fn side(&self, end: usize, number: u32) -> anyhow::Result<Side> {
        let base = u32::from(Ipv4Addr::new(172, 18, 0, 0)) + 2 * number;
        let address = |end: usize| -> IpAddr { Ipv4Addr::from(base + u32::from(end == 0)).into() };
        let (own, peer) = (address(end), address(1 - end));
        Ok(Side::Kernel(KernelSide {
            netns: self.ids[end],
            name: format!("floor{number}").parse()?,
            mac: mac_for(own),
            addrs: vec![own.into()],
            routes: vec![(peer.into(), None)],
            neighbours: Vec::new(),
            mtu: Mtu::new(if self.across { MTUS.1 } else { MTUS.0 })?,
            bare: false,
        }))
    }
}
