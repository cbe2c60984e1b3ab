//! `cargo run --release -p sim -- --seeds N [--first-seed S]`: runs seeds, says what it found.

#![forbid(unsafe_code)]

use std::{
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use sim::{
    check::{ALL, Rule},
    run::{Asked, Outcome},
    seeds::each,
};

/// Half of a run is small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: sim [--seeds N] [--first-seed S] [--jobs N] [--calm] [--show] [--keep-going] [--without RULE]...";

/// How often progress is told.
const TOLD: Duration = Duration::from_secs(5);

struct Settings {
    seeds: u64,
    first: u64,
    /// How many seeds run at a time.
    jobs: usize,
    calm: bool,
    show: bool,
    keep_going: bool,
    off: Vec<Rule>,
}

fn settings() -> anyhow::Result<Settings> {
    let mut settings = Settings {
        seeds: 100,
        first: 1,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        calm: false,
        show: false,
        keep_going: false,
        off: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> anyhow::Result<u64> {
            let value = words.next().unwrap_or_default();
            let parsed = value.parse();
            parsed.map_err(|_| anyhow::anyhow!("{word} {value:?}: not a number\n{USAGE}"))
        };
        match word.as_str() {
            "--seeds" => settings.seeds = number()?,
            "--first-seed" => settings.first = number()?,
            "--jobs" => settings.jobs = usize::try_from(number()?).unwrap_or(1).max(1),
            "--calm" => settings.calm = true,
            "--show" => settings.show = true,
            "--without" => {
                let name = words.next().unwrap_or_default();
                let rule = ALL.iter().find(|rule| format!("{rule:?}") == name);
                let rule = rule.ok_or_else(|| anyhow::anyhow!("{name:?}: none of {ALL:?}"))?;
                settings.off.push(*rule);
            }
            "--keep-going" => settings.keep_going = true,
            _ => anyhow::bail!("{word}: unknown\n{USAGE}"),
        }
    }
    if settings.show {
        // Lines of two seeds among each other tell of none.
        settings.jobs = 1;
    }
    Ok(settings)
}

/// What all runs came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    simulated: Duration,
    faults: u64,
    requests: u64,
    violations: u64,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated += outcome.simulated;
        self.faults += outcome.faults;
        self.requests += outcome.requests;
        self.violations += u64::from(outcome.violation.is_some());
    }

    fn hours(&self) -> f64 {
        self.simulated.as_secs_f64() / 3600.0
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} seeds, {:.1} simulated hours, {} faults, {} requests",
            self.seeds,
            self.hours(),
            self.faults,
            self.requests
        )
    }
}

fn say(line: &str) {
    let _closed = writeln!(std::io::stdout(), "{line}");
}

/// What is told while seeds run.
struct Told<'a> {
    settings: &'a Settings,
    began: Instant,
    told: Instant,
    sum: Sum,
    last: Option<String>,
}

impl Told<'_> {
    /// One more seed; whether more are wanted.
    fn hear(&mut self, seed: u64, outcome: &Outcome) -> bool {
        self.sum.add(outcome);
        if let Some(violation) = &outcome.violation {
            for line in &outcome.tail {
                say(&format!("  {line}"));
            }
            let line = format!(
                "seed {seed}: violation: {:?}: {}; again: cargo run --release -p sim -- --first-seed {seed} --seeds 1 --show",
                violation.rule, violation.what
            );
            say(&line);
            self.last = Some(line);
            if !self.settings.keep_going {
                return false;
            }
        }
        if self.told.elapsed() >= TOLD {
            self.told = Instant::now();
            say(&format!("{}; {}", self.sum, self.speed()));
        }
        true
    }

    /// How fast it was, by the clock on the wall.
    fn speed(&self) -> String {
        let minutes = self.began.elapsed().as_secs_f64() / 60.0;
        let (speed, jobs) = (self.sum.hours() / minutes, self.settings.jobs);
        format!("{speed:.0} simulated hours a minute with {jobs} seeds at a time")
    }
}

fn main() -> ExitCode {
    let settings = match settings() {
        Ok(settings) => settings,
        Err(error) => {
            let _closed = writeln!(std::io::stderr(), "{error}");
            return ExitCode::FAILURE;
        }
    };
    if !settings.off.is_empty() {
        say(&format!("rules left out: {:?}", settings.off));
    }
    if settings.show {
        sim::log::show_roles();
    }
    // A panic in a process of the mesh is a finding of the run, told there.
    std::panic::set_hook(Box::new(|_| {}));
    let now = Instant::now();
    let mut told = Told {
        settings: &settings,
        began: now,
        told: now,
        sum: Sum::default(),
        last: None,
    };
    let asked = |seed| Asked {
        seed,
        shown: settings.show,
        off: settings.off.clone(),
        calm: settings.calm,
    };
    let range = settings.first..settings.first.saturating_add(settings.seeds);
    each(range, settings.jobs, asked, |seed, outcome| {
        told.hear(seed, &outcome)
    });
    say(&told.speed());
    let (sum, last) = (told.sum, told.last);
    match last {
        None => {
            say(&format!("{sum}: no violation"));
            ExitCode::SUCCESS
        }
        Some(_) if settings.keep_going => {
            say(&format!("{sum}: {} seeds with violations", sum.violations));
            ExitCode::FAILURE
        }
        Some(line) => {
            say(&line);
            ExitCode::FAILURE
        }
    }
}
