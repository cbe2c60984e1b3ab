//! One peer that is followed, and what goes through it.

use std::sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool};

use tokio::{sync::Notify, time::Instant};

use super::shown::Shown;
use crate::downstream::Downstream;

pub(super) struct Stream {
    /// Where the peer is found again, and who must answer there: as whoever asked last expects it.
    next: Mutex<Downstream>,
    /// The peer is an endpoint.
    pub(super) last: AtomicBool,
    pub(super) ids: Mutex<Shown>,
    pub(super) emptied: Notify,
    /// A connection joined that the peer has not shown.
    pub(super) doubted: Notify,
    /// Something goes through the peer, or is about to.
    pub(super) wanted: Notify,
    pub(super) presence: Mutex<Presence>,
}

pub(super) struct Presence {
    /// Since when the peer has known that we watch it.
    pub(super) since: Option<Instant>,
    /// When something was asked for there, or left, the last time.
    pub(super) touched: Instant,
}

impl Stream {
    pub(super) fn new(next: Downstream, last: bool) -> Self {
        Self {
            next: Mutex::new(next),
            last: AtomicBool::new(last),
            ids: Mutex::default(),
            emptied: Notify::new(),
            doubted: Notify::new(),
            wanted: Notify::new(),
            presence: Mutex::new(Presence {
                since: None,
                touched: Instant::now(),
            }),
        }
    }

    pub(super) fn next(&self) -> Downstream {
        self.known().clone()
    }

    /// Something is asked for there that was found so: a peer that was away is there again.
    pub(super) fn want(&self, next: Downstream) {
        *self.known() = next;
        self.wanted.notify_one();
    }

    fn known(&self) -> MutexGuard<'_, Downstream> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ids(&self) -> MutexGuard<'_, Shown> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
