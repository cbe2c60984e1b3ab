//! The descriptors of one connection: those that wait to be sent, and those that came.

use std::{
    collections::{BTreeMap, VecDeque},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nsm_chain::{Code, Error};
use nsm_model::url::InodeUrl;
use tokio::{sync::oneshot, time::Instant};

/// The most descriptors that one connection holds unclaimed; beyond it the oldest is closed. A
/// manager's connection to its forwarder carries one descriptor for each request in flight, and a
/// hostile peer must not use up the process's own limit (1,024 by default).
pub const MAX_HELD: usize = 256;

/// The most descriptors that wait for the next write: as many as the other side holds.
pub const MAX_QUEUED: usize = 256;

/// The most callers that wait for a descriptor of one connection.
pub const MAX_WAITERS: usize = 4_096;

/// How long an unclaimed descriptor is held. It travels with the request that names it, and a held
/// one keeps its network namespace alive.
pub const HELD_FOR: Duration = Duration::from_secs(15);

/// How long a descriptor stays that was claimed as often as it came: two mechanisms of one request
/// may name the same one. As long as it is held its network namespace does not end, and nobody
/// learns that its pod is gone.
pub const CLAIMED_FOR: Duration = Duration::from_millis(500);

/// Why a descriptor did not cross.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// Not a unix socket.
    #[error(
        "descriptors cannot cross the TCP connection to {0}: reach it by its unix socket, on the same node"
    )]
    NotLocal(String),
    /// The connection is gone.
    #[error("the connection that should carry the descriptor is closed")]
    Closed,
    /// It did not come.
    #[error("the descriptor of {0} did not arrive in time: the peer names it but has not sent it")]
    Missing(InodeUrl),
    /// The sender's limit.
    #[error("{MAX_QUEUED} descriptors wait to be sent on this connection already")]
    QueueFull,
    /// The receiver's limit.
    #[error("{MAX_WAITERS} requests wait for descriptors on this connection already")]
    TooManyWaiters,
    /// The system refused to copy or look at it.
    #[error("a descriptor cannot be passed: {0}; is the limit of open files reached?")]
    System(String),
}

impl From<DescriptorError> for Error {
    fn from(error: DescriptorError) -> Self {
        let code = match &error {
            DescriptorError::NotLocal(_) => Code::FailedPrecondition,
            DescriptorError::Closed => Code::Unavailable,
            DescriptorError::Missing(_) => Code::DeadlineExceeded,
            DescriptorError::QueueFull | DescriptorError::TooManyWaiters => Code::ResourceExhausted,
            DescriptorError::System(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

/// How the wire names a descriptor: `inode://dev/ino` of the file behind it.
///
/// # Errors
/// When the system does not answer for it.
pub fn inode_url(fd: &impl AsFd) -> Result<InodeUrl, DescriptorError> {
    let stat = rustix::fs::fstat(fd).map_err(system)?;
    Ok(InodeUrl {
        dev: stat.st_dev,
        ino: stat.st_ino,
    })
}

/// The descriptors that cross one connection; cheap to clone. A TCP connection has one that
/// refuses.
#[derive(Debug, Clone)]
pub struct Descriptors(Way);

#[derive(Debug, Clone)]
enum Way {
    Unix(Arc<Table>),
    Tcp(Arc<str>),
}

impl Descriptors {
    pub(crate) fn unix(table: Arc<Table>) -> Self {
        Self(Way::Unix(table))
    }

    /// The handle of a connection that carries none; `peer` is for the error.
    #[must_use]
    pub fn refusing(peer: &str) -> Self {
        Self(Way::Tcp(peer.into()))
    }

    /// Queues a copy of a descriptor; it goes with the next bytes. The name to put in the message.
    ///
    /// # Errors
    /// On TCP, on a closed connection, and beyond [`MAX_QUEUED`].
    pub fn send(&self, fd: &impl AsFd) -> Result<InodeUrl, DescriptorError> {
        match &self.0 {
            Way::Unix(table) => table.queue(fd),
            Way::Tcp(peer) => Err(DescriptorError::NotLocal(peer.to_string())),
        }
    }

    /// A copy of the descriptor that the peer sends under this name, now or before `deadline`.
    ///
    /// # Errors
    /// On TCP, when the connection closes, and when it has not come in time.
    pub async fn recv(
        &self,
        name: InodeUrl,
        deadline: Instant,
    ) -> Result<OwnedFd, DescriptorError> {
        match &self.0 {
            Way::Unix(table) => table.claim(name, deadline).await,
            Way::Tcp(peer) => Err(DescriptorError::NotLocal(peer.to_string())),
        }
    }

    /// How many are held for the local side now.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.0 {
            Way::Unix(table) => table.state().held.len(),
            Way::Tcp(_) => 0,
        }
    }

    /// How many came and were closed without being claimed, by limit or by age.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        match &self.0 {
            Way::Unix(table) => table.dropped.load(Ordering::Relaxed),
            Way::Tcp(_) => 0,
        }
    }
}

/// Shared by the stream, which moves descriptors, and the [`Descriptors`] handles.
#[derive(Debug, Default)]
pub(crate) struct Table {
    state: Mutex<State>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    outgoing: VecDeque<OwnedFd>,
    held: BTreeMap<InodeUrl, Held>,
    /// Arrival order, oldest first.
    order: BTreeMap<u64, InodeUrl>,
    next: u64,
    waiters: BTreeMap<InodeUrl, Vec<oneshot::Sender<OwnedFd>>>,
    closed: bool,
}

#[derive(Debug)]
struct Held {
    fd: OwnedFd,
    number: u64,
    until: Instant,
    /// How many of those who were sent it have not claimed it yet: several calls on one connection
    /// speak of one namespace, and each takes its own time.
    unclaimed: usize,
}

// === impl Table ===

fn system(error: rustix::io::Errno) -> DescriptorError {
    DescriptorError::System(error.to_string())
}

fn copy(fd: &impl AsFd) -> Result<OwnedFd, DescriptorError> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(system)
}

impl Table {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self, fd: &impl AsFd) -> Result<InodeUrl, DescriptorError> {
        let name = inode_url(fd)?;
        let mut state = self.state();
        if state.closed {
            return Err(DescriptorError::Closed);
        }
        if state.outgoing.len() >= MAX_QUEUED {
            return Err(DescriptorError::QueueFull);
        }
        state.outgoing.push_back(copy(fd)?);
        Ok(name)
    }

    /// The next descriptor to send, if any.
    pub(crate) fn next_outgoing(&self) -> Option<OwnedFd> {
        self.state().outgoing.pop_front()
    }

    /// Puts one back that the socket did not take.
    pub(crate) fn not_sent(&self, fd: OwnedFd) {
        self.state().outgoing.push_front(fd);
    }

    /// Takes in what came with a read.
    pub(crate) fn arrived(&self, fd: OwnedFd) {
        let Ok(name) = inode_url(&fd) else { return };
        let now = Instant::now();
        let mut state = self.state();
        let mut claimed = false;
        for waiter in state.waiters.remove(&name).unwrap_or_default() {
            if let Ok(copy) = copy(&fd) {
                claimed |= waiter.send(copy).is_ok();
            }
        }
        let number = state.next;
        state.next += 1;
        state.order.insert(number, name);
        let mut unclaimed = usize::from(!claimed);
        if let Some(old) = state.held.remove(&name) {
            state.order.remove(&old.number);
            unclaimed += old.unclaimed;
        }
        let until = now
            + if unclaimed == 0 {
                CLAIMED_FOR
            } else {
                HELD_FOR
            };
        let held = Held {
            fd,
            number,
            until,
            unclaimed,
        };
        state.held.insert(name, held);
        while state.held.len() > MAX_HELD {
            self.drop_oldest(&mut state);
        }
    }

    fn drop_oldest(&self, state: &mut State) {
        let oldest = state
            .order
            .pop_first()
            .and_then(|(_, name)| state.held.remove(&name));
        if oldest.is_some_and(|held| held.unclaimed > 0) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Closes what was held long enough; whether anything is still held.
    pub(crate) fn sweep(&self, now: Instant) -> bool {
        let mut state = self.state();
        let State { held, order, .. } = &mut *state;
        held.retain(|_, entry| {
            let keep = entry.until > now;
            if !keep {
                order.remove(&entry.number);
                if entry.unclaimed > 0 {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            keep
        });
        !held.is_empty()
    }

    pub(crate) fn holds_any(&self) -> bool {
        !self.state().held.is_empty()
    }

    async fn claim(&self, name: InodeUrl, deadline: Instant) -> Result<OwnedFd, DescriptorError> {
        let waiter = {
            let mut state = self.state();
            if let Some(held) = state.held.get_mut(&name) {
                held.unclaimed = held.unclaimed.saturating_sub(1);
                if held.unclaimed == 0 {
                    held.until = held.until.min(Instant::now() + CLAIMED_FOR);
                }
                return copy(&held.fd);
            }
            if state.closed {
                return Err(DescriptorError::Closed);
            }
            state.enlist(name)?
        };
        match tokio::time::timeout_at(deadline, waiter).await {
            Ok(Ok(fd)) => Ok(fd),
            Ok(Err(_)) if self.state().closed => Err(DescriptorError::Closed),
            Ok(Err(_)) => Err(DescriptorError::System("it could not be copied".to_owned())),
            Err(_) => Err(DescriptorError::Missing(name)),
        }
    }

    /// The connection is gone: everything is closed, every waiter is told.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        *state = State {
            closed: true,
            ..State::default()
        };
    }
}

impl State {
    fn enlist(&mut self, name: InodeUrl) -> Result<oneshot::Receiver<OwnedFd>, DescriptorError> {
        // Whoever gave up leaves its place.
        self.waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        if self.waiters.values().map(Vec::len).sum::<usize>() >= MAX_WAITERS {
            return Err(DescriptorError::TooManyWaiters);
        }
        let (sender, receiver) = oneshot::channel();
        self.waiters.entry(name).or_default().push(sender);
        Ok(receiver)
    }
}
