//! `throughput`: TCP through our connections, beside links made by hand.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nsm_kernel::{NetnsFd, Workers, setup};
use nsm_lab::{Cell, Pod, Run, measure::tcp_throughput, mesh::Workload, serve};

use crate::figure::{Bound, Figure, median};
use crate::stage::{SERVICES, Stage};

/// Each turn: ours, theirs, theirs, ours, so that a drift of the machine hits both alike.
const TURNS: usize = 9;
const TRANSFER: Duration = Duration::from_millis(700);
const PORT: u16 = 5201;
/// The share of the hand-made link's throughput that ours must reach.
const SHARES: [f64; 2] = [0.97, 0.95];
const AGAINST: [&str; 2] = [
    "TCP on one node against a plain veth pair",
    "TCP across nodes against a hand-made VXLAN device",
];
/// Addresses on the hand-made links, a pair each.
const BY_HAND: [[&str; 2]; 2] = [["10.9.0.1", "10.9.0.2"], ["10.9.1.1", "10.9.1.2"]];

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let stage = Stage::up()?;
    let mut figures = Vec::new();
    for nodes in 0..2 {
        figures.extend(kind(&stage, nodes)?);
    }
    stage.down();
    Ok(figures)
}

fn kind(stage: &Stage, nodes: usize) -> anyhow::Result<Vec<Figure>> {
    let mesh = &stage.mesh;
    let service = SERVICES[nodes];
    let run = Run::nsm(["client"]).env("NSM_NETWORK_SERVICES", format!("kernel://{service}/nsm-1"));
    let client = mesh.run(
        mesh.node(0),
        &format!("nsc-{service}"),
        run,
        "successfully connected",
    )?;
    let endpoint = stage.endpoints[nodes].pod.cell();
    let pods = [
        mesh.pod(mesh.node(0), &format!("hand-a-{service}"))?,
        mesh.pod(mesh.node(nodes), &format!("hand-b-{service}"))?,
    ];
    if nodes == 0 {
        veth(&pods)?;
    } else {
        vxlan(&pods)?;
    }
    let _servers = [
        serve::start(endpoint, &[PORT], &[])?,
        serve::start(pods[1].cell(), &[PORT], &[])?,
    ];
    let ours = (client.pod.cell(), address(&client)?);
    let theirs = (
        pods[0].cell(),
        SocketAddr::new(BY_HAND[nodes][1].parse()?, PORT),
    );
    let gbps = |(cell, to): (&Cell, SocketAddr)| -> anyhow::Result<f64> {
        Ok(tcp_throughput(cell, to, TRANSFER)?.gbps)
    };
    // The first transfers fill caches.
    gbps(ours)?;
    gbps(theirs)?;
    let (mut rates, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for _ in 0..TURNS {
        let turn = [gbps(ours)?, gbps(theirs)?, gbps(theirs)?, gbps(ours)?];
        rates[0].extend([turn[0], turn[3]]);
        rates[1].extend([turn[1], turn[2]]);
        ratios.push((turn[0] + turn[3]) / (turn[1] + turn[2]));
    }
    let note = format!(
        "{:.2} against {:.2} Gbit/s (medians of {}); ratio of a turn {:.2} to {:.2}",
        median(&rates[0]),
        median(&rates[1]),
        rates[0].len(),
        ratios.iter().copied().fold(f64::MAX, f64::min),
        ratios.iter().copied().fold(f64::MIN, f64::max),
    );
    let figure = Figure::new(
        AGAINST[nodes],
        median(&ratios),
        "x",
        Bound::AtLeast(SHARES[nodes]),
    );
    Ok(vec![figure.note(note)])
}

/// The endpoint's address, as the client's log says it.
fn address(client: &Workload) -> anyhow::Result<SocketAddr> {
    let log = std::fs::read_to_string(&client.log)?;
    let peer = log.split("peers=").nth(1).and_then(|rest| {
        rest.split([',', '/', '"', ' '])
            .find(|part| !part.is_empty())
    });
    let peer: IpAddr = peer
        .context("the client's log names no peer")?
        .parse()
        .context("the peer in the client's log")?;
    Ok(SocketAddr::new(peer, PORT))
}

/// A plain pair between two pods, as anybody would make it.
fn veth(pods: &[Pod; 2]) -> anyhow::Result<()> {
    let workers = Workers::start(&NetnsFd::current()?)?;
    let open = |pod: &Pod| NetnsFd::open(&pod.cell().network_path());
    let ends = [open(&pods[0])?, open(&pods[1])?];
    let name = "hand0".parse()?;
    setup::veth(&workers, (&ends[0], &name), (&ends[1], &name), nsm_lab::MTU)?;
    for (end, own) in ends.iter().zip(BY_HAND[0]) {
        let (name, net) = (name.clone(), format!("{own}/24").parse()?);
        setup::within(&workers, end, move |inside| inside.add_address(&name, net))?;
    }
    Ok(())
}

/// A VXLAN device in each pod, its underlay in the pod's node, by the `ip` tool.
fn vxlan(pods: &[Pod; 2]) -> anyhow::Result<()> {
    for at in 0..2 {
        let (own, peer) = (&pods[at], &pods[1 - at]);
        let node = own.node();
        let (local, remote) = (node.addresses().v4, peer.node().addresses().v4);
        let pid = own.cell().pid();
        ip(
            node.cell(),
            &format!(
                "link add hand0 type vxlan id 99 local {local} remote {remote} dstport 4790 nolearning"
            ),
        )?;
        ip(node.cell(), &format!("link set hand0 netns {pid}"))?;
        ip(own.cell(), "link set hand0 mtu 1450 up")?;
        ip(
            own.cell(),
            &format!("addr add {}/24 dev hand0", BY_HAND[1][at]),
        )?;
    }
    Ok(())
}

fn ip(cell: &Cell, line: &str) -> anyhow::Result<()> {
    let run = || Command::new("ip").args(line.split(' ')).output();
    let output = cell.within(run)?.context("running `ip` (iproute2)")?;
    if !output.status.success() {
        bail!(
            "ip {line}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
