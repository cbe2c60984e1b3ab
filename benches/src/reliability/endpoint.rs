//! An endpoint that is killed, its processes and its namespace, while another one is there.

use std::time::Duration;

use anyhow::bail;

use super::options::Options;
use super::pair::flow;
use crate::figure::{Bound, Figure, percentile, say, spread};
use crate::town::{Service, Town, end, serving};

/// The bounds of the outage, milliseconds.
const MEDIAN: f64 = 100.0;
const TAIL: f64 = 300.0;
/// No return in this time is a failure.
const RETURN: Duration = Duration::from_secs(20);
/// Packets flow so long again before the next fault: an endpoint that is back under its name takes
/// nobody new for 3 s, so that clients of before come first.
const CALM: Duration = Duration::from_millis(3500);

pub(crate) fn near(options: &Options) -> anyhow::Result<Vec<Figure>> {
    row(options, "one node", 0)
}

pub(crate) fn far(options: &Options) -> anyhow::Result<Vec<Figure>> {
    row(options, "two nodes", 1)
}

fn row(options: &Options, place: &str, at: usize) -> anyhow::Result<Vec<Figure>> {
    let town = Town::up(2, None)?;
    let service = Service::new("echo", 1);
    let names = ["nse-a", "nse-b"];
    let mut endpoints = Vec::new();
    for name in names {
        endpoints.push(town.endpoint(at, name, &service, &[])?);
    }
    let client = town.client(0, "nsc", &service, "")?;
    let flow = flow(&client, &service)?;
    let mut outages = Vec::new();
    for run in 0..options.runs {
        std::thread::sleep(CALM);
        let which = serving(&endpoints.iter().collect::<Vec<_>>())?;
        let used = names[which];
        let from = flow.now();
        endpoints[which].pod.kill();
        if !flow.wait_answer(flow.now(), RETURN) {
            bail!("run {run}: no packet passes {RETURN:?} after the end of {used}");
        }
        let outage = flow.report(from, flow.now()).outage_ms;
        outages.push(outage);
        if outage > TAIL {
            say(&format!(
                "{place}, run {run}: {used} killed: {outage:.0} ms"
            ));
        }
        endpoints[which] = town.endpoint(at, names[which], &service, &[])?;
    }
    drop(flow);
    end(&client);
    endpoints.iter().for_each(end);
    town.down()?;
    let figure = |name: &str, share, bound| {
        let what = format!("endpoint killed, {place}: outage {name}");
        Figure::new(
            what,
            percentile(&outages, share),
            "ms",
            Bound::AtMost(bound),
        )
        .note(spread(&outages))
    };
    Ok(vec![figure("p50", 0.5, MEDIAN), figure("p99", 0.99, TAIL)])
}
