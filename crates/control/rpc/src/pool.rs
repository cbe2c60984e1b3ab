//! Connections by (address, own identity): one each, shared by every call to that address.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use nsm_chain::{Code, Error, Tasks};
use nsm_identity::{Identity, IdentitySource};
use nsm_model::{spiffe::SpiffeId, url::EndpointUrl};
use tokio::{sync::oneshot, time::Instant};

pub use crate::dial::DIAL_TIMEOUT;
use crate::{
    dial::{Address, Target},
    link::PeerHandle,
};

/// The most connections of one process: a manager has one to each of its node's endpoints and
/// clients' monitors and one to each other manager. Each costs two descriptors and about 100 KiB.
pub const MAX_LINKS: usize = 1_024;

/// A connection without calls, streams and handles is dropped after this time: a client's refresh
/// comes later in any case, and a process at rest shall hold nothing.
pub const IDLE_AFTER: Duration = Duration::from_secs(10);

/// How often idle connections are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    source: IdentitySource,
    tasks: Tasks,
    slots: Mutex<BTreeMap<Target, Slot>>,
    dialled: AtomicU64,
}

type Dialling = Shared<BoxFuture<'static, Result<PeerHandle, Error>>>;

struct Slot {
    state: State,
    /// With which SVID it is, or is being, made.
    identity: Arc<Identity>,
    used: Instant,
    number: u64,
}

enum State {
    Dialling(Dialling),
    Up(PeerHandle),
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} connections)", self.len())
    }
}

impl Pool {
    /// An empty pool that dials with the source's current identity; `tasks` owns its connections.
    #[must_use]
    pub fn new(source: IdentitySource, tasks: Tasks) -> Self {
        let inner = Arc::new(Inner {
            source,
            tasks: tasks.clone(),
            slots: Mutex::default(),
            dialled: AtomicU64::new(0),
        });
        let weak = Arc::downgrade(&inner);
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                let Some(inner) = weak.upgrade() else { return };
                inner.sweep(Instant::now());
            }
        });
        Self(inner)
    }

    /// The identity in use.
    #[must_use]
    pub fn source(&self) -> &IdentitySource {
        &self.0.source
    }

    /// How many connections there are, those that are being made included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.slots().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The connection to an endpoint URL: `tcp://host:port`, `unix:///path`, also
    /// `unix:///proc/self/fd/N`. Made when there is none, when it broke, when the own SVID rotated
    /// since, and when half of what the peer's had left is over; calls in flight on the old one
    /// finish there.
    ///
    /// # Errors
    /// `Unavailable` when nobody answers, `Unauthenticated` when one side refuses the other,
    /// `PermissionDenied` when the peer is not `expected`, `DeadlineExceeded` at `deadline`.
    pub async fn connect(
        &self,
        url: &EndpointUrl,
        expected: Option<&SpiffeId>,
        deadline: Instant,
    ) -> Result<PeerHandle, Error> {
        self.connect_address(Address::of(url)?, expected, deadline)
            .await
    }

    /// The connection to the unix socket behind a descriptor (O_PATH is enough), keyed by its
    /// inode.
    ///
    /// # Errors
    /// As [`Pool::connect`].
    pub async fn connect_fd(
        &self,
        socket: Arc<OwnedFd>,
        expected: Option<&SpiffeId>,
        deadline: Instant,
    ) -> Result<PeerHandle, Error> {
        self.connect_address(Address::of_descriptor(socket)?, expected, deadline)
            .await
    }

    async fn connect_address(
        &self,
        address: Address,
        expected: Option<&SpiffeId>,
        deadline: Instant,
    ) -> Result<PeerHandle, Error> {
        let handle = match self.0.find_or_dial(&address)? {
            Ok(handle) => handle,
            Err(dialling) => {
                tokio::time::timeout_at(deadline, dialling)
                    .await
                    .map_err(|_| {
                        let message =
                            format!("{}: no connection before the deadline", address.target);
                        Error::new(Code::DeadlineExceeded, message)
                    })??
            }
        };
        match expected {
            Some(id) if *id != handle.peer().id => Err(Error::new(
                Code::PermissionDenied,
                format!(
                    "{} is {}, not {id} as expected: nothing is sent to it",
                    address.target,
                    handle.peer().id
                ),
            )),
            _ => Ok(handle),
        }
    }
}

// === impl Inner ===

impl Inner {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<Target, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A live connection, or the attempt that all callers of the moment wait for.
    fn find_or_dial(
        self: &Arc<Self>,
        address: &Address,
    ) -> Result<Result<PeerHandle, Dialling>, Error> {
        let identity = self.source.current();
        let now = Instant::now();
        let mut slots = self.slots();
        if let Some(slot) = slots.get_mut(&address.target) {
            slot.used = now;
            if Arc::ptr_eq(&slot.identity, &identity) {
                match &slot.state {
                    State::Up(handle) if handle.usable() => return Ok(Ok(handle.clone())),
                    State::Up(_) => {}
                    State::Dialling(dialling) => return Ok(Err(dialling.clone())),
                }
            }
        } else if slots.len() >= MAX_LINKS {
            make_room(&mut slots)?;
        }
        let number = self.dialled.fetch_add(1, Ordering::Relaxed);
        let dialling = self.dial(address.clone(), Arc::clone(&identity), number);
        let state = State::Dialling(dialling.clone());
        slots.insert(
            address.target.clone(),
            Slot {
                state,
                identity,
                used: now,
                number,
            },
        );
        Ok(Err(dialling))
    }

    /// Dials in a task of its own: it goes on when the caller who began it gives up.
    fn dial(self: &Arc<Self>, address: Address, own: Arc<Identity>, number: u64) -> Dialling {
        let (done, outcome) = oneshot::channel();
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            let dialled = address.dial(&own, &inner.tasks).await;
            inner.settle(&address.target, number, &dialled);
            // Nobody may wait any more.
            let _ = done.send(dialled);
        });
        let gone = || Err(Error::new(Code::Cancelled, "this process shuts down"));
        outcome
            .map(move |got| got.unwrap_or_else(|_| gone()))
            .boxed()
            .shared()
    }

    fn settle(&self, target: &Target, number: u64, dialled: &Result<PeerHandle, Error>) {
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(target).filter(|slot| slot.number == number) else {
            return;
        };
        match dialled {
            Ok(handle) => slot.state = State::Up(handle.clone()),
            Err(_) => {
                slots.remove(target);
            }
        }
    }

    /// Forgets what is broken, made with an old SVID or to one, or idle.
    fn sweep(&self, now: Instant) {
        let identity = self.source.current();
        self.slots().retain(|_, slot| match &slot.state {
            State::Dialling(_) => true,
            State::Up(handle) => {
                let busy = handle.held() || now.duration_since(slot.used) < IDLE_AFTER;
                if handle.held() {
                    slot.used = now;
                }
                handle.usable() && Arc::ptr_eq(&slot.identity, &identity) && busy
            }
        });
    }
}

/// Forgets the one that was used longest ago of those that nobody holds.
fn make_room(slots: &mut BTreeMap<Target, Slot>) -> Result<(), Error> {
    let idle = slots.iter().filter_map(|(target, slot)| match &slot.state {
        State::Up(handle) if !handle.held() => Some((slot.used, target)),
        State::Up(_) | State::Dialling(_) => None,
    });
    let oldest = idle.min().map(|(_, target)| target.clone());
    let Some(oldest) = oldest else {
        let message = format!("{MAX_LINKS} connections are in use already: no more are made");
        return Err(Error::new(Code::ResourceExhausted, message));
    };
    slots.remove(&oldest);
    Ok(())
}
