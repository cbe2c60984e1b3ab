//! The lab's side of a cell: one thread starts the first process, listens to it and reaps it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::thread::UnshareFlags;

use super::spec::Spec;
use crate::error::LabError;
use crate::init::SUBCOMMAND;
use crate::leftovers::LAB_VARIABLE;
use crate::sys;
use crate::wire::{self, Call, Event, Exit, Request};

/// A first process that does not answer for this long hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Keeper {
    name: String,
    socket: OwnedFd,
    handle: Mutex<Option<OwnedFd>>,
    pid: u32,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    answers: BTreeMap<u64, Result<u32, String>>,
    running: BTreeMap<u32, ()>,
    exits: BTreeMap<u32, Exit>,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves a state that is still true: what was reported was reported.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for<T>(
        &self,
        timeout: Duration,
        mut check: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            if let Some(value) = check(&mut state) {
                return Some(value);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Keeper {
    pub(super) fn start(spec: &Spec) -> Result<Self, LabError> {
        let what = || format!("start cell {}", spec.name);
        let (socket, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|e| LabError::system(what(), e))?;
        let listener = socket
            .try_clone()
            .map_err(|e| LabError::system(what(), e))?;
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let (theirs_shared, own, lab) = (shared.clone(), spec.own_processes, spec.lab.clone());
        std::thread::Builder::new()
            .name(format!("cell {}", spec.name))
            .spawn(move || match launch(theirs, own, &lab) {
                Ok(child) => {
                    let pid = child.id();
                    let _ = sender.send(Ok(pid));
                    listen(listener.as_fd(), child, &theirs_shared);
                }
                Err(error) => drop(sender.send(Err(error))),
            })
            .map_err(|e| LabError::system(what(), e))?;
        let pid = receiver
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("its thread ended")))
            .map_err(|e| LabError::system(what(), e))?;
        let handle = rustix::process::Pid::from_raw(pid.cast_signed())
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()))
            .map_err(|e| LabError::system(what(), e))?;
        Ok(Self {
            name: spec.name.clone(),
            socket,
            handle: Mutex::new(Some(handle)),
            pid,
            shared,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn alive(&self) -> bool {
        !self.shared.lock().ended
    }

    /// Sends a command and waits for its answer.
    pub(super) fn call(&self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<u32, LabError> {
        let dead = || LabError::Dead {
            cell: self.name.clone(),
        };
        let id = {
            // Sent under the lock: two callers' messages stay whole and in the order of their
            // numbers.
            let mut state = self.shared.lock();
            if state.ended {
                return Err(dead());
            }
            state.next += 1;
            let id = state.next;
            wire::send(self.socket.as_fd(), &Call { id, request }, fds)
                .map_err(|e| LabError::system(format!("command cell {}", self.name), e))?;
            id
        };
        let answer = self.shared.wait_for(ANSWER_TIMEOUT, |state| {
            state
                .answers
                .remove(&id)
                .map(Some)
                .or(state.ended.then_some(None))
        });
        match answer {
            Some(Some(Ok(process))) => Ok(process),
            Some(Some(Err(message))) => Err(LabError::Refused {
                cell: self.name.clone(),
                message,
            }),
            Some(None) => Err(dead()),
            None => Err(LabError::Timeout {
                what: format!("command to cell {}", self.name),
                milliseconds: ANSWER_TIMEOUT.as_millis(),
            }),
        }
    }

    pub(super) fn exit(&self, process: u32) -> Option<Exit> {
        exit_of(&self.shared.lock(), process)
    }

    pub(super) fn wait_exit(&self, process: u32, timeout: Duration) -> Option<Exit> {
        self.shared
            .wait_for(timeout, |state| exit_of(state, process))
    }

    /// Waits until no process that was started on command runs.
    pub(super) fn wait_empty(&self, timeout: Duration) {
        self.shared.wait_for(timeout, |state| {
            (state.ended || state.running.is_empty()).then_some(())
        });
    }

    pub(super) fn kill(&self) {
        let handle = self
            .handle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(handle) = handle {
            // Fails only when it has ended already.
            let _ = rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::KILL);
        }
        self.shared
            .wait_for(ANSWER_TIMEOUT, |state| state.ended.then_some(()));
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.kill();
    }
}

fn exit_of(state: &State, process: u32) -> Option<Exit> {
    state
        .exits
        .get(&process)
        .copied()
        .or(state.ended.then_some(Exit::Signal(libc::SIGKILL)))
}

/// Starts the first process. Runs on the keeper's thread, which stays: the kernel ties the child's
/// death signal to it.
fn launch(theirs: OwnedFd, own_processes: bool, lab: &str) -> io::Result<Child> {
    if own_processes {
        sys::unshare(UnshareFlags::NEWPID)?;
    }
    Command::new("/proc/self/exe")
        .arg0("nsm")
        .arg(SUBCOMMAND)
        .env(LAB_VARIABLE, lab)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
}

fn listen(socket: BorrowedFd<'_>, mut child: Child, shared: &Shared) {
    loop {
        match wire::receive::<Event>(socket) {
            Ok(Some((event, _))) => record(&mut shared.lock(), event),
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "a cell's first process sent what is not understood: the cell is killed");
                let _ = child.kill();
                break;
            }
        }
        shared.changed.notify_all();
    }
    if let Err(error) = child.wait() {
        tracing::warn!(%error, "cannot wait for a cell's first process");
    }
    shared.lock().ended = true;
    shared.changed.notify_all();
}

fn record(state: &mut State, event: Event) {
    match event {
        Event::Done { id, process } => {
            // 0 and 1 are answers of commands that start nothing.
            if process > 1 && !state.exits.contains_key(&process) {
                state.running.insert(process, ());
            }
            state.answers.insert(id, Ok(process));
        }
        Event::Failed { id, message } => drop(state.answers.insert(id, Err(message))),
        Event::Exited { process, exit } => {
            state.running.remove(&process);
            state.exits.insert(process, exit);
        }
    }
}
