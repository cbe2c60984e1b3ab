//! One seed from its beginning to its verdict.

use std::time::Duration;

use nsm_chain::seam;
use tokio::time::{Instant, sleep};

use crate::{
    chance::Chance,
    check::{Rule, Violation},
    log::Log,
    namespaces,
    process::{Owners, Process},
    story::Story,
    world::World,
};

/// What is asked of a run.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The seed.
    pub seed: u64,
    /// Lines go to standard error.
    pub shown: bool,
    /// Rules that are not looked at.
    pub off: Vec<Rule>,
    /// Without faults.
    pub calm: bool,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The hash of what happened.
    pub hash: u64,
    /// The lines that it is the hash of.
    pub lines: u64,
    /// How much time passed in it.
    pub simulated: Duration,
    /// How many faults there were.
    pub faults: u64,
    /// How many Requests were sent.
    pub requests: u64,
    /// What was broken first, if anything was.
    pub violation: Option<Violation>,
    /// The last lines that mattered.
    pub tail: Vec<String>,
}

/// Runs a seed on a thread of its own, so that nothing of another run is left there.
///
/// # Panics
/// The machine gives no thread.
#[must_use]
pub fn run(asked: &Asked) -> Outcome {
    let asked = asked.clone();
    let thread = std::thread::Builder::new().name(format!("seed {}", asked.seed));
    let running = thread.spawn(move || here(&asked));
    match running.map(std::thread::JoinHandle::join) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => panic!("a thread for a run: {error}"),
    }
}

/// Runs a seed on this thread.
fn here(asked: &Asked) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => panic!("a runtime for a run: {error}"),
    };
    seam::seed(asked.seed);
    let outcome = runtime.block_on(simulate(asked));
    drop(runtime);
    namespaces::forget();
    outcome
}

async fn simulate(asked: &Asked) -> Outcome {
    let began = Instant::now();
    let log = Log::new(asked.shown);
    let owner = Process::new("world", usize::MAX);
    seam::spawn_through(std::sync::Arc::new(Owners { world: owner }));
    let chance = Chance::new(asked.seed, 3);
    // Leases of one to four minutes: a run of ten sees many of them end.
    let life = Duration::from_secs(*chance.one(&[60, 120, 240]));
    let world = World::new(asked.seed, life, log.clone());
    sleep(Duration::from_secs(2)).await;
    let mut story = Story::new(world, chance, asked.calm);
    story.checker.off = asked.off.iter().copied().collect();
    let told = story.tell().await;
    story.world.ground.net.end();
    let (hash, lines) = log.hash();
    Outcome {
        hash,
        lines,
        simulated: began.elapsed(),
        faults: story.faults,
        requests: story.world.ground.net.requests(),
        violation: told.err(),
        tail: log.tail(),
    }
}
