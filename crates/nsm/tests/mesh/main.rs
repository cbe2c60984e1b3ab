//! Faults and bad input, on the real kernel with real processes: each row does something wrong to
//! a mesh, reads what it is told, and compares kernel and tables before and after.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test program without the harness that would be allowed to"
)]

mod census;
mod faults;
mod orders;
mod raw;
mod restarts;
mod settings;
mod trust;
mod tunnels;
mod ways;
mod world;

use std::{
    collections::VecDeque,
    os::unix::process::CommandExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Command, ExitCode},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

/// One test: its name and what it does; a panic is its failure.
pub(crate) type Row = (&'static str, fn(&world::World));

/// Rows that share a mesh, one after the other.
pub(crate) struct Group {
    /// The group's name.
    pub(crate) name: &'static str,
    /// What its mesh is like.
    pub(crate) mesh: fn() -> world::Shape,
    /// In order.
    pub(crate) rows: &'static [Row],
}

/// The program under test.
pub(crate) const NSM: &str = env!("CARGO_BIN_EXE_nsm");
/// Meshes that stand at once: more would measure the machine's patience.
const AT_ONCE: usize = 3;

/// What came of all rows.
#[derive(Default)]
struct Outcome {
    failed: AtomicUsize,
    left: Mutex<Vec<String>>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        // Cells run the program under test, not this one.
        Some(nsm_lab::init::SUBCOMMAND) => {
            let error = Command::new(NSM).arg0("nsm").args(&arguments).exec();
            println!("cannot run {NSM}: {error}");
            return ExitCode::FAILURE;
        }
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    if let Err(error) = nsm_lab::enter() {
        assert!(error.is_missing_feature(), "{error}");
        println!("skipped: mesh: {error}");
        return ExitCode::SUCCESS;
    }
    // The first runtime of a process makes sockets for signals that stay: not in a lab's namespace.
    drop(
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap(),
    );
    let wanted = |name: &str| {
        let mut filters = arguments.iter().filter(|one| !one.starts_with('-'));
        filters.clone().next().is_none() || filters.any(|filter| name.contains(filter.as_str()))
    };
    let outcome = Outcome::default();
    for (name, row) in settings::ROWS {
        if wanted(&format!("settings::{name}")) {
            outcome.run(&format!("settings::{name}"), row);
        }
    }
    let groups = Mutex::new(VecDeque::from_iter([
        &restarts::GROUP,
        &faults::GROUP,
        &trust::GROUP,
        &tunnels::GROUP,
        &orders::GROUP,
        &ways::GROUP,
        &ways::SIX,
    ]));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(group) = groups.lock().unwrap().pop_front() else {
                        return;
                    };
                    outcome.group(group, &wanted);
                }
            });
        }
    });
    let left = outcome.left.into_inner().unwrap();
    println!("left behind: {left:?}");
    println!("skips: 0");
    if outcome.failed.into_inner() == 0 && left.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Outcome {
    fn run(&self, name: &str, row: impl FnOnce()) {
        let began = Instant::now();
        let ok = catch_unwind(AssertUnwindSafe(row)).is_ok();
        let took = began.elapsed().as_millis();
        let verdict = if ok { "ok" } else { "FAILED" };
        println!("test {name} ({took} ms) ... {verdict}");
        if !ok {
            self.failed.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn group(&self, group: &Group, wanted: &dyn Fn(&str) -> bool) {
        let path = |row: &str| format!("{}::{row}", group.name);
        let rows: Vec<_> = group
            .rows
            .iter()
            .filter(|(row, _)| wanted(&path(row)))
            .collect();
        if rows.is_empty() {
            return;
        }
        let mut world = None;
        self.run(&path("the mesh comes up"), || {
            world = Some(world::World::up(group.name, (group.mesh)()));
        });
        let Some(world) = world else { return };
        let failed = self.failed.load(Ordering::SeqCst);
        for (row, test) in rows {
            self.run(&path(row), || test(&world));
        }
        if self.failed.load(Ordering::SeqCst) > failed {
            world.keep_logs();
        }
        self.left.lock().unwrap().extend(world.down());
    }
}
