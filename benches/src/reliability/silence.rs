//! Packets between two nodes that get lost without a word, while an endpoint on a third is there.

use std::time::Duration;

use anyhow::bail;
use nsm_lab::{Lost, Silence};

use super::options::Options;
use super::pair::flow;
use crate::figure::{Bound, Figure, percentile, spread};
use crate::town::{Service, Town, end, serving};

/// The bound of the outage, milliseconds.
const HEALED: f64 = 1000.0;
/// No return in this time is a failure.
const RETURN: Duration = Duration::from_secs(20);
/// Packets flow so long again before the next fault.
const CALM: Duration = Duration::from_secs(3);
/// Each takes seconds.
const RUNS_MAX: usize = 10;

pub(crate) fn datagrams(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let town = Town::up(3, None)?;
    let service = Service::new("echo", 1);
    let names = ["nse-2", "nse-3"];
    let endpoints = [
        town.endpoint(1, names[0], &service, &[])?,
        town.endpoint(2, names[1], &service, &[])?,
    ];
    let client = town.client(0, "nsc", &service, "")?;
    let flow = flow(&client, &service)?;
    let mut outages = Vec::new();
    for run in 0..options.runs.min(RUNS_MAX) {
        std::thread::sleep(CALM);
        let which = serving(&endpoints.iter().collect::<Vec<_>>())?;
        let used = names[which];
        let nodes = [town.mesh.node(0).node(), town.mesh.node(which + 1).node()];
        let from = flow.now();
        let silence = [
            Silence::start(nodes[0], nodes[1], Lost::Datagrams)?,
            Silence::start(nodes[1], nodes[0], Lost::Datagrams)?,
        ];
        if !flow.wait_answer(flow.now(), RETURN) {
            bail!("run {run}: no packet passes {RETURN:?} after the path to {used} was cut");
        }
        outages.push(flow.report(from, flow.now()).outage_ms);
        for one in silence {
            one.end()?;
        }
    }
    drop(flow);
    end(&client);
    endpoints.iter().for_each(end);
    town.down()?;
    let what = "silent loss between two nodes: outage max";
    let worst = percentile(&outages, 1.0);
    Ok(vec![
        Figure::new(what, worst, "ms", Bound::AtMost(HEALED)).note(spread(&outages)),
    ])
}
