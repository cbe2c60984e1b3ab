//! A process in a cell.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use super::Cell;
use crate::error::LabError;
use crate::wire::{Exit, Request};

/// Where a process writes.
#[derive(Debug, Default)]
pub enum Output {
    /// A file in the cell's log folder, named after the cell and the first argument; nowhere if the
    /// cell has none.
    #[default]
    Log,
    /// This file, appended to.
    File(PathBuf),
    /// This descriptor.
    Fd(OwnedFd),
    /// Where the lab's own process writes its errors.
    Inherit,
}

/// A process to start in a cell: our own binary unless a program is named.
#[derive(Debug, Default)]
pub struct Run {
    program: Option<PathBuf>,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    stdout: Output,
    stderr: Output,
    stdin: Option<OwnedFd>,
}

impl Run {
    /// Our own binary (`/proc/self/exe`) with these arguments.
    pub fn nsm<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Another program.
    pub fn program<S: Into<String>>(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            program: Some(program.into()),
            ..Self::nsm(args)
        }
    }

    /// Adds or replaces a variable of the environment the lab's process has.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Adds a variable unless the process has it.
    #[must_use]
    pub fn env_unless(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.entry(key.into()).or_insert_with(|| value.into());
        self
    }

    /// Where standard output goes.
    #[must_use]
    pub fn stdout(mut self, output: Output) -> Self {
        self.stdout = output;
        self
    }

    /// Where standard error goes.
    #[must_use]
    pub fn stderr(mut self, output: Output) -> Self {
        self.stderr = output;
        self
    }

    /// Both outputs to one file.
    #[must_use]
    pub fn log(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.stdout(Output::File(path.clone()))
            .stderr(Output::File(path))
    }

    /// What standard input is; `/dev/null` if not said.
    #[must_use]
    pub fn stdin(mut self, input: OwnedFd) -> Self {
        self.stdin = Some(input);
        self
    }

    pub(super) fn into_request(self, cell: &Cell) -> Result<(Request, Vec<OwnedFd>), LabError> {
        let name = self.program.as_ref().map_or_else(
            || self.args.first().cloned().unwrap_or_default(),
            |program| {
                program
                    .file_name()
                    .map(|n| n.to_string_lossy().into_owned())
                    .unwrap_or_default()
            },
        );
        let mut fds = vec![
            open(self.stdout, cell, &name)?,
            open(self.stderr, cell, &name)?,
        ];
        let input = self.stdin.is_some();
        fds.extend(self.stdin);
        Ok((
            Request::Spawn {
                program: self.program,
                args: self.args,
                env: self.env,
                input,
            },
            fds,
        ))
    }
}

fn open(output: Output, cell: &Cell, name: &str) -> Result<OwnedFd, LabError> {
    let path = match output {
        Output::Fd(fd) => return Ok(fd),
        Output::Inherit => {
            let fd = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3);
            return fd.map_err(|e| LabError::system("copy the standard error descriptor", e));
        }
        Output::File(path) => path,
        Output::Log => match &cell.0.logs {
            Some(folder) => folder.join(format!(
                "{}.{}.log",
                cell.name(),
                name.trim_start_matches('_')
            )),
            None => PathBuf::from("/dev/null"),
        },
    };
    let file: File = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .map_err(|e| LabError::file("open the log", &path, e))?;
    Ok(file.into())
}

/// A handle on a process in a cell. Dropping it does not end the process.
#[derive(Debug, Clone)]
pub struct Process {
    cell: Cell,
    id: u32,
}

impl Process {
    pub(super) fn new(cell: Cell, id: u32) -> Self {
        Self { cell, id }
    }

    /// The process number inside the cell's pid namespace.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The cell it runs in.
    #[must_use]
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// The process number as the lab sees it, while it runs.
    #[must_use]
    pub fn host_pid(&self) -> Option<u32> {
        let inside = |pid: u32| -> Option<u32> {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))?;
            line.split_whitespace().last()?.parse().ok()
        };
        let pids = self.cell.pids();
        if pids == [self.cell.pid()] && crate::sys::runs(self.id) && self.status().is_none() {
            return Some(self.id);
        }
        pids.into_iter().find(|pid| inside(*pid) == Some(self.id))
    }

    /// How it ended, or `None` while it runs. A process of a killed cell ended by SIGKILL.
    #[must_use]
    pub fn status(&self) -> Option<Exit> {
        self.cell.0.keeper.exit(self.id)
    }

    /// Waits for its end.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<Exit> {
        self.cell.0.keeper.wait_exit(self.id, timeout)
    }

    /// Sends it a signal (`libc::SIG*`).
    ///
    /// # Errors
    /// [`LabError::Refused`] when it has ended or the signal is unknown, [`LabError::Dead`] when
    /// its cell is gone.
    pub fn signal(&self, signal: i32) -> Result<(), LabError> {
        self.cell
            .0
            .keeper
            .call(
                Request::Signal {
                    process: self.id,
                    signal,
                },
                &[],
            )
            .map(drop)
    }

    /// SIGTERM, then after `grace` SIGKILL. Returns how it ended.
    #[must_use]
    pub fn stop(&self, grace: Duration) -> Option<Exit> {
        // It may have ended already: then the answer below says so.
        let _ = self.signal(libc::SIGTERM);
        self.wait(grace).or_else(|| {
            let _ = self.signal(libc::SIGKILL);
            self.wait(grace)
        })
    }
}
