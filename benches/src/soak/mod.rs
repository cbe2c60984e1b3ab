//! `soak`: a mesh of three nodes and sixty clients, in which something breaks every few seconds;
//! packets flow on every connection throughout and are counted.
//!
//! `nsm-bench soak --minutes N [--seed S] [--clients N] [--out FOLDER]` leaves `report.json` and
//! `outages.svg` in the folder, and prints what the specification promises with its verdict. The
//! same seed throws the same faults; what the machine makes of them is its own.

mod census;
mod city;
mod dice;
mod drawing;
mod fault;
mod memory;
mod options;
mod report;

use std::time::{Duration, Instant};

use anyhow::Context as _;

use census::Census;
use city::City;
use dice::Dice;
use fault::Fault;
use memory::Memory;
use options::Options;
use report::{End, Report};

use crate::figure::{self, say};

/// The name of this bench.
pub(crate) const NAME: &str = "soak";
/// Everybody flows again within that, or the fault is told as one that stays.
const RECOVER: Duration = Duration::from_secs(15);
/// Longer than this without an answer is not flowing.
const FLOWS_MS: f64 = 400.0;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Calm between two faults: from this, and up to so many milliseconds more.
const CALM: Duration = Duration::from_secs(1);
const MORE_CALM_MS: usize = 2000;
/// After all its minutes a soak goes on for this share of them, with faults of clients alone: the
/// processes that serve live for long enough then to tell whether their memory grows.
const AFTERMATH: u32 = 6;
/// What is closed is gone by then.
const CLOSED: Duration = Duration::from_secs(20);
/// What is idle by then is let go. Hops stay with the peers that they asked for anything, at two
/// descriptors each or three, for three of their leases of half a minute, a grace, and a look.
const REST: Duration = Duration::from_secs(160);
/// How often processes are looked at in the end, and how long after one another.
const LAST_LOOKS: usize = 10;
const LAST_LOOK: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let options = Options::parse(args, u64::from(std::process::id()))?;
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("--out {}", options.out.display()))?;
    let out = options.out.canonicalize()?;
    crate::enter_lab()?;
    say(&format!(
        "soak: {} minutes, {} clients, --seed {}",
        options.minutes, options.clients, options.seed
    ));
    let mut city = City::up(&options)?;
    let report = live(&mut city, &options)?;
    // First what nothing can take away again.
    let verdict = figure::print(&report.figures());
    report.write(&out)?;
    say(&format!("report and drawing: {}", out.display()));
    city.town.down()?;
    verdict
}

fn live(city: &mut City, options: &Options) -> anyhow::Result<Report> {
    // Once before the first look: code is paged in, pools are made.
    for place in 0..options.clients.min(12) {
        city.settle(place, &format!("warm-{place:02}"))?;
    }
    drop(city.empty());
    std::thread::sleep(REST);
    let before = Census::of(city)?;
    for place in 0..options.clients {
        city.settle(place, &format!("client-{place:02}"))?;
    }
    let (faults, memory, stuck) = break_things(city, options)?;
    let lived_ms = city.crowd.now_ms();
    let lives = city.empty();
    let (after, rested) = settled(city, &before)?;
    Ok(Report {
        seed: options.seed,
        minutes: options.minutes,
        interval_ms: options.interval.as_secs_f64() * 1e3,
        lived_ms,
        faults,
        lives,
        stuck,
        slopes: memory.slopes(),
        memory,
        end: End {
            before,
            after,
            rested_s: rested.as_secs_f64(),
        },
    })
}

/// Until the time is over, and its aftermath: a fault, everybody flows again, some calm.
fn break_things(
    city: &mut City,
    options: &Options,
) -> anyhow::Result<(Vec<Fault>, Memory, Vec<String>)> {
    let mut dice = Dice::new(options.seed);
    let (mut faults, mut memory, mut stuck) = (Vec::new(), Memory::default(), Vec::new());
    let began = Instant::now();
    let all = Duration::from_secs(options.minutes * 60);
    let end = all + all / AFTERMATH;
    while began.elapsed() < end {
        let kinds = if began.elapsed() < all {
            fault::ALL
        } else {
            fault::OF_CLIENTS
        };
        std::thread::sleep(CALM);
        let more = u64::try_from(dice.below(MORE_CALM_MS)).unwrap_or(0);
        std::thread::sleep(Duration::from_millis(more));
        memory.look(city);
        match fault::happen(city, &mut dice, kinds, faults.len()) {
            Ok(fault) => {
                let at = began.elapsed().as_secs();
                say(&format!("{at:>5} s  {:?}: {}", fault.kind, fault.what));
                faults.push(fault);
            }
            Err(error) => {
                let text = format!("{error:#}").replace('\n', " | ");
                say(&format!("        could not be done: {text}"));
                stuck.push(text);
            }
        }
        for who in silent(city) {
            let text = format!("{who} after {:?}", faults.last().map(|one| &one.what));
            say(&format!("        does not flow: {text}"));
            stuck.push(text);
        }
    }
    Ok((faults, memory, stuck))
}

/// Waits until everybody flows; who does not nevertheless.
fn silent(city: &City) -> Vec<String> {
    let began = Instant::now();
    loop {
        let counted = city.crowd.counted();
        let silent = counted.iter().filter(|(_, one)| one.silent_ms > FLOWS_MS);
        let silent: Vec<String> = silent.map(|(name, _)| name.clone()).collect();
        if silent.is_empty() || began.elapsed() > RECOVER {
            return silent;
        }
        std::thread::sleep(LOOK);
    }
}

/// What there is when all clients have left, as soon as it is what there was before, and how long
/// that took; what processes hold is looked at when they rest. Of a thread or a descriptor that
/// comes and goes, the least counts: what is leaked stays.
fn settled(city: &City, before: &Census) -> anyhow::Result<(Census, Duration)> {
    let began = Instant::now();
    loop {
        let after = Census::of(city)?;
        if after.same_kernel(before) || began.elapsed() > CLOSED {
            break;
        }
        std::thread::sleep(LOOK);
    }
    std::thread::sleep(CLOSED.saturating_sub(began.elapsed()));
    let mut after = Census::of(city)?;
    std::thread::sleep(REST.saturating_sub(began.elapsed()));
    let rested = began.elapsed();
    after.roles = Census::of(city)?.roles;
    for _ in 0..LAST_LOOKS {
        std::thread::sleep(LAST_LOOK);
        after.least(&Census::of(city)?);
    }
    Ok((after, rested))
}
