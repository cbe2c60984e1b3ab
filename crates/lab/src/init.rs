//! The first process of a cell: makes the cell's namespaces its own, then starts, signals and reaps
//! on command.
//!
//! It is our own binary run as `nsm __lab-init` with the control socket as standard input. It ends
//! when the lab does.

mod children;
mod setup;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, set_parent_process_death_signal, setsid};

use crate::wire::{self, Call, Event, Request};
use children::Children;

/// The hidden subcommand the binary dispatches to [`main`].
pub const SUBCOMMAND: &str = "__lab-init";
/// The argument that turns the process into a role that dies with the process that started it.
pub(crate) const RUN: &str = "--run";
/// Orphans of roles are reaped at least this often; exits of roles themselves are seen at once.
const SWEEP: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Runs the first process of a cell. `args` are what follows the subcommand's name. Returns when
/// the lab is gone.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    if args.first().is_some_and(|first| first == RUN) {
        return children::run(&args[1..]);
    }
    // Ended by the socket as well; the signal covers a lab that is stopped while it holds the
    // socket open.
    let tied = set_parent_process_death_signal(Some(Signal::KILL));
    // Out of the terminal's foreground group: Ctrl-C is the lab's to handle, not every role's.
    // Fails harmlessly for a process that already leads a session.
    let _ = setsid();
    let control = io::stdin();
    match tied
        .map_err(io::Error::from)
        .and_then(|()| serve(control.as_fd()))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the first process of a cell failed");
            ExitCode::FAILURE
        }
    }
}

fn serve(control: BorrowedFd<'_>) -> io::Result<()> {
    let mut children = Children::default();
    loop {
        if wait(control, &children)? {
            let Some((call, fds)) = wire::receive::<Call>(control)? else {
                children.signal_all(libc::SIGKILL);
                return Ok(());
            };
            let id = call.id;
            let event = match answer(call.request, fds, &mut children) {
                Ok(process) => Event::Done { id, process },
                Err(message) => Event::Failed { id, message },
            };
            wire::send(control, &event, &[])?;
        }
        for (process, exit) in children.reap() {
            wire::send(control, &Event::Exited { process, exit }, &[])?;
        }
    }
}

/// Waits for a command or an exit; true if there is a command (or the end of the socket).
fn wait(control: BorrowedFd<'_>, children: &Children) -> io::Result<bool> {
    let mut fds = vec![PollFd::from_borrowed_fd(control, PollFlags::IN)];
    fds.extend(
        children
            .handles()
            .map(|handle| PollFd::from_borrowed_fd(handle, PollFlags::IN)),
    );
    match poll(&mut fds, Some(&SWEEP)) {
        Ok(_) => Ok(!fds[0].revents().is_empty()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn answer(request: Request, fds: Vec<OwnedFd>, children: &mut Children) -> Result<u32, String> {
    match request {
        Request::Setup(setup) => {
            children.tie(!setup.own_processes);
            setup::apply(&setup, fds.into_iter().next()).map(|()| 1)
        }
        Request::Spawn {
            program,
            args,
            env,
            input,
        } => children
            .spawn(program.as_deref(), &args, &env, input, fds)
            .map_err(|e| {
                format!(
                    "start {} {}: {e}",
                    program.map_or("nsm".into(), |p| p.display().to_string()),
                    args.join(" ")
                )
            }),
        Request::Signal { process, signal } => {
            children
                .signal(process, signal)
                .map_err(|e| format!("signal {signal} to process {process}: {e}"))?;
            Ok(process)
        }
        Request::SignalAll { signal } => {
            children.signal_all(signal);
            Ok(0)
        }
    }
}
