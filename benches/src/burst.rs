//! `burst`: a hundred clients at once on one node.

use std::time::Instant;

use crate::client::{Report, Task, milliseconds};
use crate::figure::{Bound, Figure, median, percentile, say};
use crate::stage::{Client, SERVICES, Stage};

const CLIENTS: usize = 100;

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let stage = Stage::up()?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(stage.client(&format!("nsc-{number}"), SERVICES[0])?);
    }
    let task = Task {
        first: 0,
        count: 1,
        each: false,
    };
    let began = Instant::now();
    for client in &mut clients {
        client.tell(task)?;
    }
    let reports = clients
        .iter_mut()
        .map(Client::report)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let total = milliseconds(began);
    let opened: Vec<f64> = reports
        .iter()
        .flat_map(|one: &Report| one.opened.clone())
        .collect();
    let errors: Vec<&String> = reports.iter().flat_map(|one| &one.errors).collect();
    for error in errors.iter().take(3) {
        say(&format!("burst: {error}"));
    }
    drop(clients);
    stage.down();
    #[allow(clippy::cast_precision_loss, reason = "a hundred")]
    let failed = errors.len() as f64;
    let note = format!(
        "p50 {:.0} ms, slowest {:.0} ms until connected, handshakes included",
        median(&opened),
        percentile(&opened, 1.0)
    );
    Ok(vec![
        Figure::new(
            format!("{CLIENTS} clients at once: failed"),
            failed,
            "",
            Bound::AtMost(0.0),
        ),
        Figure::new(
            format!("{CLIENTS} clients at once: all connected and closed"),
            total,
            "ms",
            Bound::Beside,
        )
        .note(note),
    ])
}
