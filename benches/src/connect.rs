//! `connect`: how long a new connection takes, and its close, beside the bare netlink floor.

use crate::client::Task;
use crate::figure::{Bound, Figure, median, spread};
use crate::floor::Floor;
use crate::stage::{Client, SERVICES, Stage};
use crate::usage;

/// Connections of each kind, and how many of them in a turn of ours and then of the floor.
const CONNECTIONS: u32 = 300;
const TURN: u32 = 20;
/// Before the measuring: handshakes, first allocations.
const WARM: u32 = 20;
/// The bounds of a connection on one node, on two, and of a close, milliseconds.
const OPEN: [f64; 2] = [3.0, 6.0];
const CLOSE: f64 = 3.0;
const WHERE: [&str; 2] = ["one node", "two nodes"];

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let stage = Stage::up()?;
    let mut figures = Vec::new();
    for nodes in 0..2 {
        figures.extend(kind(&stage, nodes)?);
    }
    stage.down();
    Ok(figures)
}

#[derive(Default)]
struct Times {
    opened: Vec<f64>,
    closed: Vec<f64>,
}

fn kind(stage: &Stage, nodes: usize) -> anyhow::Result<Vec<Figure>> {
    let mesh = &stage.mesh;
    let service = SERVICES[nodes];
    let mut client = stage.client(&format!("nsc-{service}"), service)?;
    let pods = [
        mesh.pod(mesh.node(0), &format!("floor-a-{service}"))?,
        mesh.pod(mesh.node(nodes), &format!("floor-b-{service}"))?,
    ];
    let floor = Floor::new(
        [mesh.node(0).node(), mesh.node(nodes).node()],
        [&pods[0], &pods[1]],
    )?;
    let (mut ours, mut bare) = (Times::default(), Times::default());
    let mut burnt = 0.0;
    let warm = Task {
        first: 0,
        count: WARM,
        each: true,
    };
    client.work(warm)?;
    for turn in 0..CONNECTIONS / TURN {
        let first = WARM + turn * TURN;
        let before = cpu(stage, &client)?;
        let task = Task {
            first,
            count: TURN,
            each: true,
        };
        let report = client.work(task)?;
        burnt += cpu(stage, &client)? - before;
        ours.opened.extend(report.opened);
        ours.closed.extend(report.closed);
        for number in first..first + TURN {
            let (opened, closed) = floor.connect(number)?;
            bare.opened.push(opened);
            bare.closed.push(closed);
        }
    }
    // Links pile up: what is open together slows what is made next.
    let kept = client.work(Task {
        first: WARM + CONNECTIONS,
        count: CONNECTIONS,
        each: false,
    })?;
    Ok(figures(nodes, &ours, &bare, burnt, &kept.opened))
}

fn figures(nodes: usize, ours: &Times, bare: &Times, burnt: f64, kept: &[f64]) -> Vec<Figure> {
    let place = WHERE[nodes];
    let row = |what: &str, times: &[f64], bound: Bound| {
        Figure::new(format!("{what}, {place}, p50"), median(times), "ms", bound).note(spread(times))
    };
    let above = median(&ours.opened) / median(&bare.opened);
    vec![
        row("connect", &ours.opened, Bound::AtMost(OPEN[nodes])),
        row("connect by bare netlink", &bare.opened, Bound::Beside),
        Figure::new(
            format!("connect against bare netlink, {place}"),
            above,
            "x",
            Bound::Beside,
        ),
        row("connect, 300 kept open", kept, Bound::Beside),
        row("close", &ours.closed, Bound::AtMost(CLOSE)),
        row("close by bare netlink", &bare.closed, Bound::Beside),
        Figure::new(
            format!("processor time of a connect and close, {place}"),
            burnt / f64::from(CONNECTIONS),
            "ms",
            Bound::Beside,
        )
        .note("all processes"),
    ]
}

/// Processor time of everybody who takes part.
fn cpu(stage: &Stage, client: &Client) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for (_, pid) in stage.processes() {
        sum += usage::cpu(pid)?;
    }
    if let Some(pid) = client.workload.process.host_pid() {
        sum += usage::cpu(pid)?;
    }
    Ok(sum)
}
