//! `cycles`: after many connections have come and gone, every role holds what it held before.

use std::time::Duration;

use nsm_lab::Cell;

use crate::client::Task;
use crate::figure::{Bound, Figure, say};
use crate::stage::{SERVICES, Stage};
use crate::usage::{self, Usage};

const CYCLES: u32 = 500;
/// Before the first look: code is paged in, pools are made.
const WARM: u32 = 50;
/// What is idle by then is let go.
const REST: Duration = Duration::from_secs(15);
/// Growth of resident memory, MB.
const MEMORY: f64 = 1.0;

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let stage = Stage::up()?;
    let mut clients = [
        stage.client("nsc-near", SERVICES[0])?,
        stage.client("nsc-far", SERVICES[1])?,
    ];
    let cells: Vec<Cell> = clients
        .iter()
        .map(|client| client.workload.pod.cell().clone())
        .chain(stage.cells())
        .collect();
    let mut all = |first: u32, count: u32| -> anyhow::Result<()> {
        for client in &mut clients {
            // Half of them on one node, half on two.
            client.work(Task {
                first,
                count: count / 2,
                each: true,
            })?;
        }
        std::thread::sleep(REST);
        Ok(())
    };
    all(0, WARM)?;
    let before = look(&stage, &cells)?;
    all(WARM, CYCLES)?;
    let after = look(&stage, &cells)?;
    drop(clients);
    stage.down();
    Ok(figures(&before, &after))
}

struct Look {
    roles: Vec<(String, Usage)>,
    links: usize,
}

fn look(stage: &Stage, cells: &[Cell]) -> anyhow::Result<Look> {
    let mut roles = Vec::new();
    for (name, pid) in stage.processes() {
        roles.push((name, Usage::of(pid)?));
    }
    let mut links = 0;
    for cell in cells {
        links += usage::links(cell)?;
    }
    Ok(Look { roles, links })
}

#[allow(clippy::cast_precision_loss, reason = "some thousand at most")]
fn figures(before: &Look, after: &Look) -> Vec<Figure> {
    let (mut threads, mut descriptors, mut memory) = (0.0_f64, 0.0_f64, f64::MIN);
    let mut most = String::new();
    for ((name, was), (_, is)) in before.roles.iter().zip(&after.roles) {
        say(&format!(
            "cycles: {name}: threads {} to {}, descriptors {} to {}, memory {} to {} kB",
            was.threads, is.threads, was.descriptors, is.descriptors, was.resident, is.resident
        ));
        threads = threads.max(is.threads as f64 - was.threads as f64);
        descriptors = descriptors.max(is.descriptors as f64 - was.descriptors as f64);
        let grown = (is.resident as f64 - was.resident as f64) / 1024.0;
        if grown > memory {
            memory = grown;
            most = format!("the most: {name}");
        }
    }
    let links = after.links as f64 - before.links as f64;
    let row = |what: &str, grown: f64, unit, bound| {
        Figure::new(
            format!("{CYCLES} cycles: {what} more than before"),
            grown,
            unit,
            Bound::AtMost(bound),
        )
    };
    vec![
        row("threads", threads, "", 0.0),
        row("descriptors", descriptors, "", 0.0),
        row("links", links, "", 0.0).note(format!("{} before", before.links)),
        row("memory", memory, "MB", MEMORY).note(most),
    ]
}
