//! `flood`: somebody knocks at a manager's door with wrong certificates, at a low priority; other
//! clients connect as before, and the manager holds afterwards what it held.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::client::Task;
use crate::figure::{Bound, Figure, median, say, spread};
use crate::knock::{self, SUBCOMMAND};
use crate::stage::{Client, SERVICES, Stage};
use crate::usage::{self, Usage};

/// The flood: attempts a second, and how long.
const RATE: u32 = 200;
const SECONDS: u32 = 10;
/// The share of that rate below which nothing was shown.
const ATTAINED: f64 = 0.9;
/// How much longer connects may take meanwhile.
const SLOWER: f64 = 2.0;
/// Growth of resident memory, MB: as after `cycles`.
const MEMORY: f64 = 1.0;
/// Connects before the flood and after it, and in each turn during it.
const QUIET: u32 = 150;
const TURN: u32 = 10;
/// Before the measuring: code is paged in, on both sides of the door.
const WARM: u32 = 20;
const WARM_SECONDS: u32 = 2;
/// Newcomers: a handshake of an honest client this often.
const NEWCOMERS: u32 = 10;
/// What is idle by then is let go.
const REST: Duration = Duration::from_secs(15);

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let stage = Stage::up()?;
    let mut client = stage.client("nsc-near", SERVICES[0])?;
    let mut newcomer = stage.program(SUBCOMMAND, "newcomer", "")?;
    let mut flooder = stage.program(SUBCOMMAND, "flooder", "")?;
    let (_, manager) = stage.mesh.node(0).role("manager").context("a manager")?;
    let mut connects = Connects::default();
    connects.work(&mut client, WARM)?;
    let _warm = knocks(&mut newcomer, RATE, 1, false)?;
    let _warm = knocks(&mut flooder, RATE, WARM_SECONDS, true)?;
    std::thread::sleep(REST);
    let before = Usage::of(manager)?;

    let mut quiet = connects.work(&mut client, QUIET)?;
    let alone = knocks(&mut newcomer, NEWCOMERS, SECONDS, false)?;
    let spent = usage::cpu(manager)?;
    newcomer.tell(task(NEWCOMERS, SECONDS, false))?;
    flooder.tell(task(RATE, SECONDS, true))?;
    let (began, mut flooded) = (Instant::now(), Vec::new());
    while began.elapsed() < Duration::from_secs(SECONDS.into()) {
        flooded.extend(connects.work(&mut client, TURN)?);
    }
    let flood: knock::Report = flooder.report()?;
    let among: knock::Report = newcomer.report()?;
    let spent = usage::cpu(manager)? - spent;
    quiet.extend(connects.work(&mut client, QUIET)?);

    std::thread::sleep(REST);
    let after = Usage::of(manager)?;
    drop((client, newcomer, flooder));
    stage.down();
    say(&format!(
        "flood: {} refused in {:.1} s, of {}; {:.0} ms of the manager's processor time; {}",
        flood.refused,
        flood.took,
        RATE * SECONDS,
        spent,
        flood.said
    ));
    Ok(figures(
        [&quiet, &flooded],
        [&alone, &among],
        &flood,
        [before, after],
    ))
}

fn task(rate: u32, seconds: u32, forged: bool) -> knock::Task {
    knock::Task {
        rate,
        seconds,
        forged,
    }
}

fn knocks(
    who: &mut Client,
    rate: u32,
    seconds: u32,
    forged: bool,
) -> anyhow::Result<knock::Report> {
    who.tell(task(rate, seconds, forged))?;
    who.report()
}

/// Connects of one client, each with a number of its own.
#[derive(Default)]
struct Connects(u32);

impl Connects {
    fn work(&mut self, client: &mut Client, count: u32) -> anyhow::Result<Vec<f64>> {
        let first = self.0;
        self.0 += count;
        let report = client.work(Task {
            first,
            count,
            each: true,
        })?;
        Ok(report.opened)
    }
}

#[allow(clippy::cast_precision_loss, reason = "some thousand at most")]
fn figures(
    [quiet, flooded]: [&[f64]; 2],
    [alone, among]: [&knock::Report; 2],
    flood: &knock::Report,
    [before, after]: [Usage; 2],
) -> Vec<Figure> {
    let row = |what: &str, times: &[f64]| {
        Figure::new(format!("{what}, p50"), median(times), "ms", Bound::Beside).note(spread(times))
    };
    let most = |what: &str, grown: f64, unit, bound| {
        Figure::new(
            format!("flood: {what} more than before"),
            grown,
            unit,
            Bound::AtMost(bound),
        )
    };
    let grown = (after.resident as f64 - before.resident as f64) / 1024.0;
    let descriptors = after.descriptors as f64 - before.descriptors as f64;
    vec![
        row("flood: connect before and after", quiet),
        row("flood: connect meanwhile", flooded),
        Figure::new(
            "flood: connect p50 meanwhile against before and after",
            median(flooded) / median(quiet),
            "x",
            Bound::AtMost(SLOWER),
        ),
        row("flood: a newcomer's handshake before", &alone.in_after),
        row("flood: a newcomer's handshake meanwhile", &among.in_after),
        Figure::new(
            "flood: newcomers refused",
            f64::from(alone.refused + among.refused),
            "",
            Bound::AtMost(0.0),
        )
        .note(among.said.clone()),
        Figure::new(
            "flood: wrong certificates refused",
            f64::from(flood.refused),
            "",
            Bound::AtLeast(f64::from(RATE * SECONDS)),
        ),
        // A flood that this machine had no time for is none.
        Figure::new(
            "flood: attempts a second",
            f64::from(flood.refused) / flood.took,
            "",
            Bound::AtLeast(f64::from(RATE) * ATTAINED),
        ),
        most("descriptors", descriptors, "", 0.0),
        most("memory", grown, "MB", MEMORY),
    ]
}
