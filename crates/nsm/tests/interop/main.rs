//! Any one component can be the other implementation's: meshes in which programs on that
//! implementation's own libraries (`interop/go`) stand beside ours, on the real kernel.
//!
//! `NSM_INTEROP_PEERS` names a folder with other programs to stand in for those of `interop/go`:
//! `client`, `endpoint`, `registry`, `manager`, `forwarder`, as far as there are.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test program without the harness that would be allowed to"
)]

#[path = "../common/mod.rs"]
mod common;
mod corners;
mod hostile;
mod identity;
mod matrix;
mod peers;
mod replay;
mod scene;

use std::{process::ExitCode, time::Instant};

use common::{
    census, raw,
    runner::{self, Job, Outcome},
    world,
};

/// Meshes that stand at once: most of the time they wait for leases.
const AT_ONCE: usize = 5;

fn main() -> ExitCode {
    // Before the namespaces of the lab, which have no way to where Go modules come from.
    if !nsm_lab::entered() && !runner::in_cell() {
        peers::prepare();
    }
    let outcome = match runner::enter("interop") {
        Ok(outcome) => outcome,
        Err(code) => return code,
    };
    match peers::Peers::find() {
        Ok(peers) => {
            let began = Instant::now();
            outcome.jobs(AT_ONCE, jobs(&peers));
            matrix::print(&outcome);
            println!("interop: {} s", began.elapsed().as_secs());
        }
        Err(lack) => outcome.skip("interop", &lack),
    }
    outcome.end()
}

fn jobs<'a>(peers: &'a peers::Peers) -> Vec<Job<'a>> {
    let cells = matrix::cells()
        .map(|cell| -> Job<'a> { Box::new(move |outcome: &Outcome| cell.run(outcome, peers)) });
    let others: [Job<'a>; 5] = [
        Box::new(|outcome| identity::habits(outcome, peers)),
        Box::new(|outcome| replay::run(outcome, peers)),
        Box::new(|outcome| corners::run(outcome, peers)),
        Box::new(|outcome| hostile::run(outcome, peers)),
        Box::new(|outcome| identity::ours(outcome, peers)),
    ];
    others.into_iter().chain(cells).collect()
}
