//! Runs rows, in groups that share a mesh, a few meshes at once.

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

use super::world::{Shape, World};

/// One test: its name and what it does; a panic is its failure.
pub(crate) type Row = (&'static str, fn(&World));

/// Rows that share a mesh, one after the other.
pub(crate) struct Group {
    /// The group's name.
    pub(crate) name: &'static str,
    /// What its mesh is like.
    pub(crate) mesh: fn() -> Shape,
    /// In order.
    pub(crate) rows: &'static [Row],
}

/// Something to run beside others.
pub(crate) type Job<'a> = Box<dyn FnOnce(&Outcome) + Send + 'a>;

/// The program under test.
pub(crate) const NSM: &str = env!("CARGO_BIN_EXE_nsm");

/// What came of all rows.
#[derive(Default)]
pub(crate) struct Outcome {
    /// The arguments: parts of the names that are wanted, all of them if there is none.
    arguments: Vec<String>,
    failed: AtomicUsize,
    skipped: AtomicUsize,
    verdicts: Mutex<Vec<(String, bool)>>,
    left: Mutex<Vec<String>>,
}

/// Enters the namespaces of a lab; an exit code if this process has another part, or cannot.
pub(crate) fn enter(program: &str) -> Result<Outcome, ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        // Cells run the program under test, not this one.
        Some(nsm_lab::init::SUBCOMMAND) => {
            let error = Command::new(NSM).arg0("nsm").args(&arguments).exec();
            println!("cannot run {NSM}: {error}");
            return Err(ExitCode::FAILURE);
        }
        Some("--list") => return Err(ExitCode::SUCCESS),
        _ => {}
    }
    if let Err(error) = nsm_lab::enter() {
        assert!(error.is_missing_feature(), "{error}");
        println!("skipped: {program}: {error}");
        return Err(ExitCode::SUCCESS);
    }
    // The first runtime of a process makes sockets for signals that stay: not in a lab's namespace.
    drop(
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap(),
    );
    Ok(Outcome {
        arguments,
        ..Outcome::default()
    })
}

impl Outcome {
    /// Whether the command line asks for a row.
    pub(crate) fn wanted(&self, name: &str) -> bool {
        let mut filters = self.arguments.iter().filter(|one| !one.starts_with('-'));
        filters.clone().next().is_none() || filters.any(|filter| name.contains(filter.as_str()))
    }

    /// Runs a row; true if it holds.
    pub(crate) fn run(&self, name: &str, row: impl FnOnce()) -> bool {
        let began = Instant::now();
        let ok = catch_unwind(AssertUnwindSafe(row)).is_ok();
        let took = began.elapsed().as_millis();
        let verdict = if ok { "ok" } else { "FAILED" };
        println!("test {name} ({took} ms) ... {verdict}");
        if !ok {
            self.failed.fetch_add(1, Ordering::SeqCst);
        }
        self.verdicts.lock().unwrap().push((name.to_owned(), ok));
        ok
    }

    /// The rows that ran whose names begin so, and whether they hold.
    pub(crate) fn verdicts(&self, prefix: &str) -> Vec<(String, bool)> {
        let all = self.verdicts.lock().unwrap();
        let of_it =
            |(name, ok): &(String, bool)| Some((name.strip_prefix(prefix)?.to_owned(), *ok));
        all.iter().filter_map(of_it).collect()
    }

    /// Says that this machine lacks what a row needs.
    pub(crate) fn skip(&self, name: &str, reason: &str) {
        println!("skipped: {name}: {reason}");
        self.skipped.fetch_add(1, Ordering::SeqCst);
    }

    /// Runs the rows of a group that are wanted.
    pub(crate) fn group(&self, group: &Group) {
        let path = |row: &str| format!("{}::{row}", group.name);
        let rows: Vec<_> = group
            .rows
            .iter()
            .filter(|(row, _)| self.wanted(&path(row)))
            .collect();
        if rows.is_empty() {
            return;
        }
        self.mesh(group.name, (group.mesh)(), |world| {
            for (row, test) in rows {
                self.run(&path(row), || test(world));
            }
        });
    }

    /// Stands a mesh for some rows, and takes it down; keeps its logs if one of them failed.
    pub(crate) fn mesh(&self, name: &str, shape: Shape, rows: impl FnOnce(&World)) {
        let mut world = None;
        self.run(&format!("{name}::the mesh comes up"), || {
            world = Some(World::up(name, shape));
        });
        let Some(world) = world else { return };
        let failed = self.failed.load(Ordering::SeqCst);
        rows(&world);
        if self.failed.load(Ordering::SeqCst) > failed {
            world.keep_logs();
        }
        self.left.lock().unwrap().extend(world.down());
    }

    /// Runs jobs, so many at once.
    pub(crate) fn jobs<'a>(&self, at_once: usize, jobs: impl IntoIterator<Item = Job<'a>>) {
        let jobs: Mutex<VecDeque<Job<'a>>> = Mutex::new(jobs.into_iter().collect());
        std::thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    loop {
                        let Some(job) = jobs.lock().unwrap().pop_front() else {
                            return;
                        };
                        job(self);
                    }
                });
            }
        });
    }

    /// Prints the counts.
    pub(crate) fn end(self) -> ExitCode {
        let left = self.left.into_inner().unwrap();
        println!("left behind: {left:?}");
        println!("skips: {}", self.skipped.into_inner());
        if self.failed.into_inner() == 0 && left.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Whether this process is the first one of a cell.
pub(crate) fn in_cell() -> bool {
    std::env::args().nth(1).as_deref() == Some(nsm_lab::init::SUBCOMMAND)
}
