//! Roles that are killed, stay away for three leases while refreshes fall due, and come back.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::options::Options;
use super::pair::Pair;
use crate::client::{Report, SUBCOMMAND, Task};
use crate::figure::{Bound, Figure};
use crate::stage::{Client, program};
use crate::town::{Service, Town};

/// New connections work again so soon after a process is back, milliseconds.
const NEW_AGAIN: f64 = 300.0;
/// Beyond this nothing is waited for.
const GIVE_UP: Duration = Duration::from_secs(30);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(20);
const NODES: usize = 2;
const WHERE: [&str; NODES] = ["one node", "two nodes"];

/// A role of a node.
type Killed = (&'static str, usize);
/// How long after a start a connection was there, milliseconds, and what was answered before.
type Connected = (f64, String);

pub(crate) fn registry(options: &Options) -> anyhow::Result<Vec<Figure>> {
    row(options, "registry", &[("registry", 0)])
}

pub(crate) fn client_manager(options: &Options) -> anyhow::Result<Vec<Figure>> {
    row(options, "client's manager", &[("manager", 0)])
}

pub(crate) fn endpoint_manager(options: &Options) -> anyhow::Result<Vec<Figure>> {
    row(options, "endpoint's manager", &[("manager", 1)])
}

pub(crate) fn client_forwarder(options: &Options) -> anyhow::Result<Vec<Figure>> {
    row(options, "client's forwarder", &[("forwarder", 0)])
}

pub(crate) fn endpoint_forwarder(options: &Options) -> anyhow::Result<Vec<Figure>> {
    row(options, "endpoint's forwarder", &[("forwarder", 1)])
}

pub(crate) fn authority(options: &Options) -> anyhow::Result<Vec<Figure>> {
    row(options, "nsm ca, both", &[("ca", 0), ("ca", 1)])
}

pub(crate) fn everything(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let all = [
        ("ca", 0),
        ("ca", 1),
        ("registry", 0),
        ("manager", 0),
        ("manager", 1),
        ("forwarder", 0),
        ("forwarder", 1),
    ];
    row(options, "everything", &all)
}

fn row(options: &Options, what: &str, killed: &[Killed]) -> anyhow::Result<Vec<Figure>> {
    let town = Town::up(NODES, Some(options.lease))?;
    let services = [Service::new("near", 1), Service::new("far", 2)];
    let pairs = [
        Pair::new(&town, 0, &services[0])?,
        Pair::new(&town, 1, &services[1])?,
    ];
    let newcomer = |at: usize| {
        let service = &services[at].name;
        program(&town.mesh, SUBCOMMAND, &format!("new-{service}"), service)
    };
    let mut newcomers = [newcomer(0)?, newcomer(1)?];
    for newcomer in &mut newcomers {
        newcomer.work(once(0))?;
    }
    let marks: Vec<_> = pairs.iter().map(|pair| pair.flow.now()).collect();
    for (role, at) in killed {
        town.mesh.node(*at).kill(role);
    }
    std::thread::sleep(options.away());
    let started = Instant::now();
    for (role, at) in killed {
        town.mesh.start(town.mesh.node(*at), role)?;
    }
    let back = Instant::now();
    let new = connects(&mut newcomers, back);
    std::thread::sleep(options.watch);
    let mut figures = Vec::new();
    for (at, pair) in pairs.iter().enumerate() {
        let seen = pair.flow.report(marks[at], pair.flow.now());
        let name = format!("{what} away, {}", WHERE[at]);
        figures.push(lost(&name, seen.lost).note(format!(
            "of {}; longest gap {:.0} ms at {:.1} s, dropped by full receive buffers {}",
            seen.sent,
            seen.outage_ms,
            (seen.outage_begin_ms - marks[at].as_secs_f64() * 1e3) / 1e3,
            pair.drops(&seen)?
        )));
        let what = format!("{name}: interface another");
        figures.push(Figure::new(what, pair.changed(), "", Bound::AtMost(0.0)));
    }
    let start = (back - started).as_secs_f64() * 1e3;
    for (at, new) in new.into_iter().enumerate() {
        let name = format!("{what} back, {}: a new connection", WHERE[at]);
        let figure = match new {
            Ok((ms, refused)) => {
                Figure::new(name, ms, "ms", Bound::AtMost(NEW_AGAIN)).note(refused)
            }
            Err(error) => Figure::new(name, f64::INFINITY, "ms", Bound::AtMost(NEW_AGAIN))
                .note(format!("{error:#}")),
        };
        figures.push(figure.note(format!("ready {start:.0} ms after its start")));
    }
    drop(newcomers);
    pairs.into_iter().for_each(Pair::end);
    town.down()?;
    Ok(figures)
}

#[allow(clippy::cast_precision_loss, reason = "some hundred thousand at most")]
fn lost(name: &str, lost: u64) -> Figure {
    let what = format!("{name}: packets lost");
    Figure::new(what, lost as f64, "", Bound::AtMost(0.0))
}

fn once(number: u32) -> Task {
    Task {
        first: number,
        count: 1,
        each: true,
    }
}

/// For each newcomer, how long after `back` a new connection was there.
fn connects(newcomers: &mut [Client], back: Instant) -> Vec<anyhow::Result<Connected>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = newcomers
            .iter_mut()
            .map(|newcomer| scope.spawn(move || connect(newcomer, back)))
            .collect();
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(outcome) => outcome,
                Err(_) => bail!("its thread panicked"),
            })
            .collect()
    })
}

fn connect(newcomer: &mut Client, back: Instant) -> anyhow::Result<Connected> {
    let mut refused = Vec::new();
    for number in 1.. {
        newcomer.tell(once(number))?;
        let report: Report = newcomer.report()?;
        if !report.opened.is_empty() {
            // The close after it is not what was waited for.
            let closed = report.closed.first().copied().unwrap_or_default();
            let ms = (back.elapsed().as_secs_f64() * 1e3 - closed).max(0.0);
            return Ok((ms, refused.join("; ")));
        }
        let at = back.elapsed().as_millis();
        let why = report
            .errors
            .into_iter()
            .map(|error| format!("{at} ms: {error}"));
        refused.extend(why);
        // What is said again and again is said twice.
        refused.truncate(2);
        // Users' clients do not ask in a hot loop either.
        std::thread::sleep(AGAIN);
        if back.elapsed() > GIVE_UP {
            bail!("none in {GIVE_UP:?}: {}", refused.join("; "));
        }
    }
    bail!("numbers ended")
}
