//! The processes of a cell as its first process sees them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, set_parent_process_death_signal, wait,
};

use super::{RUN, SUBCOMMAND};
use crate::wire::Exit;

#[derive(Debug, Default)]
pub(super) struct Children {
    handles: BTreeMap<u32, OwnedFd>,
    tied: bool,
}

impl Children {
    /// Without a pid namespace of its own the cell's death does not take its processes along: each
    /// is tied to us.
    pub(super) fn tie(&mut self, tied: bool) {
        self.tied = tied;
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.handles.values().map(AsFd::as_fd)
    }

    pub(super) fn spawn(
        &mut self,
        program: Option<&Path>,
        args: &[String],
        env: &BTreeMap<String, String>,
        input: bool,
        fds: Vec<OwnedFd>,
    ) -> io::Result<u32> {
        let missing = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "output descriptors are missing",
            )
        };
        let mut fds = fds.into_iter();
        let (output, error) = (
            fds.next().ok_or_else(missing)?,
            fds.next().ok_or_else(missing)?,
        );
        let own = PathBuf::from("/proc/self/exe");
        let mut command = if self.tied {
            let mut command = Command::new(&own);
            let parent = std::process::id().to_string();
            command
                .args([SUBCOMMAND, RUN, &parent])
                .arg(program.unwrap_or(&own));
            command
        } else {
            Command::new(program.unwrap_or(&own))
        };
        if program.is_none() {
            command.arg0("nsm");
        }
        command
            .args(args)
            .envs(env)
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(error));
        command.stdin(if input {
            Stdio::from(fds.next().ok_or_else(missing)?)
        } else {
            Stdio::null()
        });
        let process = command.spawn()?.id();
        let pid = pid(process)?;
        // A process that ended already is a zombie until reaped, so its descriptor can be had.
        self.handles
            .insert(process, pidfd_open(pid, PidfdFlags::empty())?);
        Ok(process)
    }

    pub(super) fn signal(&self, process: u32, signal: i32) -> io::Result<()> {
        let handle = self
            .handles
            .get(&process)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        let signal = Signal::from_named_raw(signal).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(rustix::process::pidfd_send_signal(handle, signal)?)
    }

    pub(super) fn signal_all(&self, signal: i32) {
        for process in self.handles.keys() {
            if let Err(error) = self.signal(*process, signal) {
                tracing::debug!(process, signal, %error, "process of the cell was not signalled");
            }
        }
    }

    /// Collects every ended process, adopted orphans included; returns those that were started on
    /// command.
    pub(super) fn reap(&mut self) -> Vec<(u32, Exit)> {
        let mut ended = Vec::new();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let process = pid.as_raw_nonzero().get().unsigned_abs();
            let exit = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => continue,
            };
            if self.handles.remove(&process).is_some() {
                ended.push((process, exit));
            }
        }
        ended
    }
}

fn pid(process: u32) -> io::Result<Pid> {
    i32::try_from(process)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `--run PARENT PROGRAM ARGS`: ties this process to its parent, then becomes the program.
pub(super) fn run(args: &[String]) -> ExitCode {
    let [parent, program, rest @ ..] = args else {
        return ExitCode::FAILURE;
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        tracing::error!(%error, "cannot tie the process to its cell");
        return ExitCode::FAILURE;
    }
    // The parent may have ended before the line above: then nobody will end us.
    let present = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if present.as_ref() != Some(parent) {
        return ExitCode::FAILURE;
    }
    let error = Command::new(program)
        .arg0(if program == "/proc/self/exe" {
            "nsm"
        } else {
            program
        })
        .args(rest)
        .exec();
    tracing::error!(%error, program, "cannot run the program");
    ExitCode::FAILURE
}
