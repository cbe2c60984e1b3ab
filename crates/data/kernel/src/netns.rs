//! Network namespaces: descriptors that are what they claim to be, and the threads that enter them.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use nsm_plan::NetnsId;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{KernelError, NetnsError};

/// `ioctl_ns(2)`: the kind of a namespace file.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
/// `linux/magic.h`: the file system of namespaces.
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// The kernel serialises link changes under one lock: more threads than this only wait for each
/// other.
pub const WORKERS: usize = 2;
/// Jobs that wait for a worker; a caller beyond that blocks until one is taken.
const QUEUE: usize = 64;

/// An open network namespace. Keeps the namespace alive: hold it no longer than a request lasts.
#[derive(Clone, Debug)]
pub struct NetnsFd {
    fd: Arc<OwnedFd>,
    id: NetnsId,
}

impl NetnsFd {
    /// Takes a descriptor that came from somebody else.
    ///
    /// # Errors
    /// [`NetnsError::NotNetns`] when it is anything but a network namespace.
    pub fn new(fd: OwnedFd) -> Result<Self, NetnsError> {
        let fd = usable(fd)?;
        let stat = rustix::fs::fstat(&fd)
            .map_err(|e| KernelError::new("stat", "namespace descriptor", e.raw_os_error()))?;
        // SAFETY: NS_GET_NSTYPE takes no argument and writes no memory; the descriptor is open for
        // the length of the call.
        let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            let what = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            let what = what.map_or_else(
                |_| "of unknown kind".to_owned(),
                |path| path.display().to_string(),
            );
            return Err(NetnsError::NotNetns { what });
        }
        Ok(Self {
            fd: Arc::new(fd),
            id: NetnsId {
                dev: stat.st_dev,
                ino: stat.st_ino,
            },
        })
    }

    /// Opens a namespace by path, e.g. `/proc/7/ns/net` or `/run/netns/blue`.
    ///
    /// # Errors
    /// When the path cannot be opened or is not a network namespace.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        let file = File::open(path)
            .map_err(|e| KernelError::io("open namespace", path.display().to_string(), &e))?;
        Self::new(file.into())
    }

    /// A namespace that some process of this machine (of our process namespace) is in.
    pub(crate) fn of_a_process(id: NetnsId) -> Option<Self> {
        let is_it = |path: &std::path::PathBuf| {
            std::fs::metadata(path).is_ok_and(|meta| meta.dev() == id.dev && meta.ino() == id.ino)
        };
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let mut paths = processes.map(|process| process.path().join("ns/net"));
        let found = Self::open(&paths.find(is_it)?).ok()?;
        (found.id == id).then_some(found)
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn current() -> Result<Self, NetnsError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> NetnsId {
        self.id
    }

    pub(crate) fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// A descriptor that can be asked and entered: peers of the Go implementation pass one that was
/// opened with `O_PATH`, which can only name the file. Only a file of the namespaces' own file
/// system is opened, since opening anything else may block or do something.
fn usable(fd: OwnedFd) -> Result<OwnedFd, NetnsError> {
    let failed = |what: &'static str| {
        move |e: rustix::io::Errno| KernelError::new(what, "namespace descriptor", e.raw_os_error())
    };
    let flags = rustix::fs::fcntl_getfl(&fd).map_err(failed("read flags of"))?;
    if !flags.contains(rustix::fs::OFlags::PATH) {
        return Ok(fd);
    }
    let system = rustix::fs::fstatfs(&fd).map_err(failed("stat file system of"))?;
    if system.f_type != NSFS_MAGIC {
        return Ok(fd);
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(failed("open"))?)
}

impl AsFd for NetnsFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A worker's ability to move itself; it returns to the node's namespace when its job ends.
#[derive(Debug)]
pub struct Inside<'a> {
    node: &'a NetnsFd,
}

impl Inside<'_> {
    /// Moves this worker into a namespace.
    ///
    /// # Errors
    /// Mostly EPERM: entering needs `CAP_SYS_ADMIN` in the namespace's user namespace.
    pub fn enter(&mut self, netns: &NetnsFd) -> Result<(), NetnsError> {
        set(netns)
    }

    /// Moves this worker home.
    ///
    /// # Errors
    /// As [`Inside::enter`].
    pub fn leave(&mut self) -> Result<(), NetnsError> {
        set(self.node)
    }

    /// Moves this worker into a new namespace.
    ///
    /// # Errors
    /// Mostly EPERM: needs `CAP_SYS_ADMIN`.
    pub(crate) fn create(&mut self) -> Result<NetnsFd, NetnsError> {
        // SAFETY: only the network namespace of this worker changes, no descriptor table; the
        // worker returns home after its job at the latest.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
            .map_err(|e| KernelError::new("create", "network namespace", e.raw_os_error()))?;
        NetnsFd::current()
    }

    pub(crate) fn node(&self) -> &NetnsFd {
        self.node
    }
}

fn set(netns: &NetnsFd) -> Result<(), NetnsError> {
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|e| {
        KernelError::new("enter namespace", netns.id.to_string(), e.raw_os_error()).into()
    })
}

type Job = Box<dyn FnOnce(&mut Inside<'_>) + Send>;

/// A few threads that may change their network namespace, so that no caller's thread ever does.
/// Joined on drop.
#[derive(Debug)]
pub struct Workers {
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts the threads in `node`.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(node: &NetnsFd) -> Result<Self, NetnsError> {
        let (jobs, queue) = sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let spawn = |n: usize| {
            let (queue, node) = (Arc::clone(&queue), node.clone());
            thread::Builder::new()
                .name(format!("netns-{n}"))
                .spawn(move || work(&queue, &node))
        };
        let threads: Result<Vec<_>, _> = (0..WORKERS).map(spawn).collect();
        let threads = threads.map_err(|e| KernelError::io("start", "namespace worker", &e))?;
        Ok(Self {
            jobs: Some(jobs),
            threads,
        })
    }

    /// Runs a job on a worker and waits for its result. The job starts in the node's namespace.
    ///
    /// # Errors
    /// [`NetnsError::Lost`] when the job panicked.
    pub fn run<T, F>(&self, job: F) -> Result<T, NetnsError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Inside<'_>) -> T + Send + 'static,
    {
        let lost = || NetnsError::Lost("a namespace".into());
        let (answer, result) = sync_channel(1);
        let job: Job = Box::new(move |inside| {
            // The caller waits for it, so the answer has a reader.
            let _ = answer.send(job(inside));
        });
        self.jobs
            .as_ref()
            .ok_or_else(lost)?
            .send(job)
            .map_err(|_| lost())?;
        result.recv().map_err(|_| lost())
    }

    /// Runs a job inside a namespace and waits for its result.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn inside<T, F>(&self, netns: &NetnsFd, job: F) -> Result<T, NetnsError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let netns = netns.clone();
        self.run(move |inside| {
            inside.enter(&netns)?;
            Ok(job())
        })?
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A worker fences its jobs' panics; nothing is left to report.
            let _ = thread.join();
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>, node: &NetnsFd) {
    if let Err(error) = set(node) {
        tracing::error!(%error, "namespace worker cannot reach the node's namespace");
        return;
    }
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let mut inside = Inside { node };
        if catch_unwind(AssertUnwindSafe(|| job(&mut inside))).is_err() {
            tracing::error!("a job inside a namespace panicked");
        }
        if let Err(error) = set(node) {
            // A worker in a wrong namespace would do damage: better one worker less.
            tracing::error!(%error, "namespace worker cannot return home and ends");
            return;
        }
    }
}
