//! Faults and bad input, on the real kernel with real processes: each row does something wrong to
//! a mesh, reads what it is told, and compares kernel and tables before and after.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test program without the harness that would be allowed to"
)]

mod bad;
mod clock;
#[path = "../common/mod.rs"]
mod common;
mod confined;
mod doubles;
mod drains;
mod faults;
mod functions;
mod heals;
mod orders;
mod outages;
mod restarts;
mod roles;
mod settings;
mod thief;
mod trust;
mod tunnels;
mod ways;

use std::process::ExitCode;

use common::{
    census, raw,
    runner::{self, Group, Job, NSM},
    world,
};

/// Meshes that stand at once: more would measure the machine's patience.
const AT_ONCE: usize = 3;

fn main() -> ExitCode {
    let outcome = match runner::enter("mesh") {
        Ok(outcome) => outcome,
        Err(code) => return code,
    };
    for (name, row) in settings::ROWS {
        let name = format!("settings::{name}");
        if outcome.wanted(&name) {
            outcome.run(&name, row);
        }
    }
    let groups = [
        &restarts::GROUP,
        &outages::GROUP,
        &confined::GROUP,
        &doubles::GROUP,
        &bad::GROUP,
        &clock::GROUP,
        &drains::GROUP,
        &faults::GROUP,
        &functions::GROUP,
        &heals::GROUP,
        &trust::GROUP,
        &roles::GROUP,
        &tunnels::GROUP,
        &orders::GROUP,
        &ways::GROUP,
        &ways::SIX,
    ];
    let jobs =
        groups.map(|group| Box::new(|outcome: &runner::Outcome| outcome.group(group)) as Job<'_>);
    outcome.jobs(AT_ONCE, jobs);
    outcome.end()
}
