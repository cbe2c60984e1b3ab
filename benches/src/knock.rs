//! A program that knocks at a manager's door at a steady rate, by its own identity or by a forged
//! one, told by one line on its standard input.

use std::io::BufRead as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nsm_chain::Tasks;
use nsm_identity::{Identity, IdentitySource, ca::Root, client::Workload};
use nsm_model::url::EndpointUrl;
use nsm_rpc::Pool;
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, task::JoinSet, time::MissedTickBehavior};

use crate::client::{READY, milliseconds, tell, variable};

/// The hidden subcommand that becomes this program.
pub(crate) const SUBCOMMAND: &str = "__bench-knock";
/// How long one attempt may take; later than the listener's own patience.
const PATIENCE: Duration = Duration::from_secs(10);
/// Attempts under way: far more than any rate here needs, while the door answers.
const AT_ONCE: usize = 400;
/// The lowest priority that there is.
const NICEST: i32 = 19;

/// What it is told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Attempts a second.
    pub rate: u32,
    pub seconds: u32,
    /// With a certificate of another authority, and at the lowest priority.
    pub forged: bool,
}

/// What it answers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Milliseconds of each attempt that got in.
    pub in_after: Vec<f64>,
    pub refused: u32,
    /// A refusal.
    pub said: String,
    /// Seconds that it took.
    pub took: f64,
}

pub(crate) fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let workload = variable("SPIFFE_ENDPOINT_SOCKET")?;
    let workload = runtime.block_on(Workload::connect(&workload, PATIENCE))?;
    let door = EndpointUrl::parse(&variable("NSM_CONNECT_TO")?);
    tell(READY)?;
    for line in std::io::stdin().lock().lines() {
        let task: Task = serde_json::from_str(&line?).context("a task")?;
        let mut source = workload.source();
        if task.forged {
            give_way()?;
            source = IdentitySource::fixed(forged(&source.current())?);
        }
        let report = runtime.block_on(knock(task, source, door.clone()))?;
        tell(&serde_json::to_string(&report)?)?;
    }
    Ok(())
}

/// The lowest priority, also where the kernel shares time among sessions first (sched(7)).
fn give_way() -> anyhow::Result<()> {
    rustix::process::nice(NICEST).context("lowering the priority")?;
    match std::fs::write("/proc/self/autogroup", NICEST.to_string()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("lowering the priority of the session")
        }
        _ => Ok(()),
    }
}

/// Our name, signed by an authority of the same name that nobody knows.
fn forged(own: &Identity) -> anyhow::Result<Arc<Identity>> {
    let forger = Root::generate(own.id().trust_domain())?;
    let forged = forger.issue(own.id(), Duration::from_secs(3600))?;
    Ok(Identity::new(
        forged.chain().to_vec(),
        forged.key().secret_der().to_vec(),
        own.bundles().clone(),
    )?)
}

async fn knock(task: Task, source: IdentitySource, door: EndpointUrl) -> anyhow::Result<Report> {
    let mut clock = tokio::time::interval(Duration::from_secs(1) / task.rate);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let began = Instant::now();
    let mut attempts = JoinSet::new();
    for _ in 0..task.rate * task.seconds {
        clock.tick().await;
        let room = Arc::clone(&room).acquire_owned().await?;
        let (source, door) = (source.clone(), door.clone());
        attempts.spawn(async move {
            let _room = room;
            let began = Instant::now();
            // A pool of its own: it keeps no connection, and no grudge.
            let tasks = Tasks::new();
            let _closed = tasks.guard();
            let pool = Pool::new(source, tasks);
            match pool.connect(&door, None, (began + PATIENCE).into()).await {
                Ok(_) => Ok(milliseconds(began)),
                Err(error) => Err(error.to_string()),
            }
        });
    }
    let mut report = Report::default();
    while let Some(attempt) = attempts.join_next().await {
        match attempt? {
            Ok(after) => report.in_after.push(after),
            Err(said) => {
                report.refused += 1;
                report.said = said;
            }
        }
    }
    report.took = began.elapsed().as_secs_f64();
    Ok(report)
}
