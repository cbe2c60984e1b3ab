//! An interface that somebody sets down inside the workload.

use std::time::Duration;

use anyhow::bail;
use nsm_lab::Disturbance;

use super::options::Options;
use super::pair::Pair;
use crate::figure::{Bound, Figure, percentile, spread};
use crate::town::{INTERFACE, Service, Town};

/// The bound of the outage, milliseconds.
const REPAIRED: f64 = 200.0;
/// No return in this time is a failure.
const RETURN: Duration = Duration::from_secs(20);
/// Packets flow so long again before the next fault.
const CALM: Duration = Duration::from_millis(300);
/// A forwarder repairs one connection so often at once, then leaves it alone for ever longer
/// whiles, and forgets it after a minute of calm: nobody sets an interface down every second but
/// to fight it.
const AT_ONCE: usize = 5;
const FORGOTTEN: Duration = Duration::from_secs(62);

pub(crate) fn near(options: &Options) -> anyhow::Result<Vec<Figure>> {
    row(options, "one node", 0)
}

pub(crate) fn far(options: &Options) -> anyhow::Result<Vec<Figure>> {
    row(options, "two nodes", 1)
}

fn row(options: &Options, place: &str, at: usize) -> anyhow::Result<Vec<Figure>> {
    let town = Town::up(2, None)?;
    let pair = Pair::new(&town, at, &Service::new("echo", 1))?;
    let mut outages = Vec::new();
    for run in 0..options.runs {
        let tired = run > 0 && run % AT_ONCE == 0;
        std::thread::sleep(if tired { FORGOTTEN } else { CALM });
        let from = pair.flow.now();
        pair.client
            .pod
            .cell()
            .disturb(INTERFACE, Disturbance::Down)?;
        if !pair.flow.wait_answer(pair.flow.now(), RETURN) {
            bail!("run {run}: no packet passes {RETURN:?} after {INTERFACE} was set down");
        }
        outages.push(pair.flow.report(from, pair.flow.now()).outage_ms);
    }
    pair.end();
    town.down()?;
    let what = format!("interface set down, {place}: outage max");
    let worst = percentile(&outages, 1.0);
    Ok(vec![
        Figure::new(what, worst, "ms", Bound::AtMost(REPAIRED)).note(spread(&outages)),
    ])
}
