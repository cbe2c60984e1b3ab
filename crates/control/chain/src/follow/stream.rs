//! One peer that is followed, and what goes through it.

use std::sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool};

use tokio::{sync::Notify, time::Instant};

use super::shown::Shown;
use crate::downstream::Downstream;

pub(super) struct Stream {
    pub(super) next: Downstream,
    /// The peer is an endpoint.
    pub(super) last: AtomicBool,
    pub(super) ids: Mutex<Shown>,
    pub(super) emptied: Notify,
    /// A connection joined that the peer has not shown.
    pub(super) doubted: Notify,
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
            next,
            last: AtomicBool::new(last),
            ids: Mutex::default(),
            emptied: Notify::new(),
            doubted: Notify::new(),
            presence: Mutex::new(Presence {
                since: None,
                touched: Instant::now(),
            }),
        }
    }

    pub(super) fn ids(&self) -> MutexGuard<'_, Shown> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
