//! A cell: one machine-like compartment with its own mount and pid namespace, and a network
//! namespace of its own or shared.

mod keeper;
mod process;
mod spec;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::LabError;
use crate::netlink::Netlink;
use crate::sys;
use crate::wire::{Request, Setup};
use keeper::Keeper;

pub use process::{Output, Process, Run};
pub use spec::{Network, Spec};

/// A running cell. Cloning gives another handle; the cell dies by [`Cell::kill`] or when the last
/// handle is dropped.
#[derive(Debug, Clone)]
pub struct Cell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    logs: Option<PathBuf>,
    namespaces: Namespaces,
    keeper: Keeper,
}

/// The kernel's identities of a cell's namespaces, as `/proc/PID/ns/*` shows them; known before a
/// role runs in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces {
    /// Inode of the network namespace.
    pub network: u64,
    /// Inode of the pid namespace.
    pub processes: u64,
    /// Inode of the mount namespace.
    pub mounts: u64,
}

/// What may be done to a link behind our back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// It is set down.
    Down,
    /// It is removed.
    Delete,
}

impl Cell {
    /// Starts the cell and waits until its first process has made its namespaces and mounts.
    ///
    /// # Errors
    /// [`LabError::Refused`] with the step that failed, [`LabError::System`] when the process
    /// cannot be started.
    pub fn start(spec: Spec) -> Result<Self, LabError> {
        let keeper = Keeper::start(&spec)?;
        let pid = keeper.pid();
        let setup = Setup {
            name: spec.name.clone(),
            own_network: matches!(spec.network, Network::Own),
            own_processes: spec.own_processes,
            binds: spec.binds,
        };
        match &spec.network {
            Network::Own => keeper.call(Request::Setup(setup), &[])?,
            Network::Of(other) => {
                let file = other.open_network()?;
                keeper.call(Request::Setup(setup), &[file.as_fd()])?
            }
            Network::Lab => {
                let path = "/proc/self/ns/net";
                let file =
                    std::fs::File::open(path).map_err(|e| LabError::file("open", path, e))?;
                keeper.call(Request::Setup(setup), &[file.as_fd()])?
            }
        };
        let inode = |kind| {
            sys::inode_of(pid, kind)
                .map_err(|e| LabError::system(format!("read namespaces of process {pid}"), e))
        };
        let namespaces = Namespaces {
            network: inode("net")?,
            processes: inode("pid")?,
            mounts: inode("mnt")?,
        };
        Ok(Self(Arc::new(Inner {
            name: spec.name,
            logs: spec.logs,
            namespaces,
            keeper,
        })))
    }

    /// The cell's name, also the host name inside it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The number of the cell's first process, as the lab's process sees it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.keeper.pid()
    }

    /// The inodes of the cell's namespaces.
    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        self.0.namespaces
    }

    /// The path under which the cell's network namespace can be opened from the lab's process while
    /// the cell lives.
    #[must_use]
    pub fn network_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid()))
    }

    /// Opens the cell's network namespace. The namespace lives as long as the descriptor: hold it
    /// briefly.
    ///
    /// # Errors
    /// [`LabError::Dead`] when the cell is gone.
    pub fn open_network(&self) -> Result<std::fs::File, LabError> {
        let file = std::fs::File::open(self.network_path()).map_err(|_| self.dead())?;
        // The number may belong to another process by now: the keeper knows, since it reaps.
        if self.alive() {
            Ok(file)
        } else {
            Err(self.dead())
        }
    }

    /// Runs `work` on a thread of its own inside the cell's network namespace and waits for it.
    ///
    /// # Errors
    /// [`LabError::Dead`] when the cell is gone, [`LabError::System`] when its namespace cannot be
    /// entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let path = self.network_path();
        if !self.alive() {
            return Err(self.dead());
        }
        let entered = std::thread::scope(|scope| {
            let handle = scope.spawn(|| sys::enter_network(&path).map(|()| work()));
            handle
                .join()
                .map_err(|_| io::Error::other("the thread panicked"))
        });
        let what = || format!("work inside cell {}", self.name());
        entered
            .map_err(|e| LabError::system(what(), e))?
            .map_err(|e| LabError::system(what(), e))
    }

    /// Does something to a link of the cell's namespace, as somebody inside might by mistake.
    ///
    /// # Errors
    /// [`LabError::Dead`]; [`LabError::System`] when there is no such link or the kernel refuses.
    pub fn disturb(&self, link: &str, how: Disturbance) -> Result<(), LabError> {
        let done = self.within(|| {
            let netlink = Netlink::open()?;
            match how {
                Disturbance::Down => netlink.set_down(netlink.index(link)?),
                Disturbance::Delete => netlink.delete(link),
            }
        })?;
        done.map_err(|e| LabError::system(format!("{how:?} {link} in {}", self.name()), e))
    }

    /// Adds an address to a link of the cell's namespace.
    ///
    /// # Errors
    /// As [`Cell::disturb`].
    pub fn add_address(&self, link: &str, address: IpAddr, prefix: u8) -> Result<(), LabError> {
        let done = self.within(|| {
            let netlink = Netlink::open()?;
            netlink.add_address(netlink.index(link)?, address, prefix)
        })?;
        let what = || format!("add {address} to {link} in {}", self.name());
        done.map_err(|e| LabError::system(what(), e))
    }

    /// The index of a link of the cell's namespace.
    ///
    /// # Errors
    /// As [`Cell::disturb`].
    pub fn link_index(&self, link: &str) -> Result<u32, LabError> {
        let found = self.within(|| Netlink::open()?.index(link))?;
        found.map_err(|e| LabError::system(format!("find {link} in {}", self.name()), e))
    }

    /// Starts a process in the cell.
    ///
    /// # Errors
    /// [`LabError::Refused`] when the program cannot be started, [`LabError::Dead`] when the cell
    /// is gone.
    pub fn spawn(&self, run: Run) -> Result<Process, LabError> {
        let (request, output) = run.into_request(self)?;
        let fds: Vec<BorrowedFd<'_>> = output.iter().map(AsFd::as_fd).collect();
        let id = self.0.keeper.call(request, &fds)?;
        Ok(Process::new(self.clone(), id))
    }

    /// True until the cell's first process has ended.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.0.keeper.alive()
    }

    /// Kills the cell's first process, and with it every process of the cell, and waits until they
    /// are gone.
    pub fn kill(&self) {
        self.0.keeper.kill();
    }

    /// Asks every process of the cell to end (SIGTERM), waits up to `grace`, then kills the cell.
    pub fn stop(&self, grace: Duration) {
        if self
            .0
            .keeper
            .call(
                Request::SignalAll {
                    signal: libc::SIGTERM,
                },
                &[],
            )
            .is_ok()
        {
            self.0.keeper.wait_empty(grace);
        }
        self.kill();
    }

    /// The processes of the cell as the lab's process numbers them, first process included. For a
    /// cell without a pid namespace of its own only the first process is told apart.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        if !self.alive() {
            return Vec::new();
        }
        if sys::inode("/proc/self/ns/pid").ok() == Some(self.0.namespaces.processes) {
            return vec![self.pid()];
        }
        let ours = |pid: &u32| sys::inode_of(*pid, "pid").ok() == Some(self.0.namespaces.processes);
        sys::processes().into_iter().filter(ours).collect()
    }

    fn dead(&self) -> LabError {
        LabError::Dead {
            cell: self.0.name.clone(),
        }
    }
}
