//! One watcher of connections.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::Stream;
use nsm_api::connection::{Connection, ConnectionEvent, ConnectionEventType};
use nsm_chain::{Code, Error};
use nsm_model::spiffe::SpiffeId;
use tokio::sync::mpsc;

use super::table::Table;

/// The most events that wait for a subscriber; one that lets more pile up is cut off. Events share
/// their connection, so that one costs 24 bytes here.
pub const MAX_WAITING_EVENTS: usize = 1_024;

/// Decides what a subscriber sees, of a connection and of those that it is shown to.
pub(crate) type Filter = Box<dyn Fn(&Connection, &[SpiffeId]) -> bool + Send + Sync>;

/// What happened, with the connection shared by all who are told.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) kind: ConnectionEventType,
    pub(crate) connection: Arc<Connection>,
}

impl Change {
    fn event(&self) -> ConnectionEvent {
        event(self.kind, std::slice::from_ref(&self.connection))
    }
}

/// One event about these connections.
pub(crate) fn event(kind: ConnectionEventType, connections: &[Arc<Connection>]) -> ConnectionEvent {
    let connections = connections
        .iter()
        .map(|one| (one.id.clone(), Connection::clone(one)));
    ConnectionEvent {
        r#type: kind.into(),
        connections: connections.collect(),
        ..ConnectionEvent::default()
    }
}

/// Who subscribes, and which connections it names by the id of one of their segments.
#[derive(Debug, Clone)]
pub(crate) struct Watcher {
    pub(crate) who: SpiffeId,
    pub(crate) named: Vec<String>,
}

/// The table's end of a subscription.
pub(crate) struct Subscriber {
    pub(crate) filter: Filter,
    pub(crate) watcher: Option<Watcher>,
    queue: mpsc::Sender<Change>,
    cut: Arc<AtomicBool>,
}

impl Subscriber {
    /// Both ends; `initial` is what the subscriber sees first.
    pub(crate) fn new(
        filter: Filter,
        watcher: Option<Watcher>,
        initial: VecDeque<ConnectionEvent>,
        number: u64,
        table: Weak<Table>,
    ) -> (Self, Events) {
        let (queue, changes) = mpsc::channel(MAX_WAITING_EVENTS);
        let cut = Arc::new(AtomicBool::new(false));
        let events = Events {
            initial,
            changes,
            cut: Arc::clone(&cut),
            ended: false,
            number,
            table,
        };
        let subscriber = Self {
            filter,
            watcher,
            queue,
            cut,
        };
        (subscriber, events)
    }

    /// Whether the subscriber keeps up.
    pub(crate) fn tell(&self, change: &Change) -> bool {
        match self.queue.try_send(change.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.cut.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

/// A subscriber's events: the initial state first, then every change. Ends with
/// `RESOURCE_EXHAUSTED` when it did not keep up, and quietly with the role.
#[derive(Debug)]
pub struct Events {
    initial: VecDeque<ConnectionEvent>,
    changes: mpsc::Receiver<Change>,
    cut: Arc<AtomicBool>,
    ended: bool,
    number: u64,
    table: Weak<Table>,
}

impl Stream for Events {
    type Item = Result<ConnectionEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(event) = this.initial.pop_front() {
            return Poll::Ready(Some(Ok(event)));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        match this.changes.poll_recv(context) {
            Poll::Ready(Some(change)) => Poll::Ready(Some(Ok(change.event()))),
            Poll::Ready(None) => {
                this.ended = true;
                let slow = this.cut.load(Ordering::Acquire);
                Poll::Ready(slow.then(|| Err(too_slow())))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

fn too_slow() -> Error {
    let message = format!(
        "this monitor stream fell {MAX_WAITING_EVENTS} events behind and is cut off: \
         open it again, and read it as fast as events come"
    );
    Error::new(Code::ResourceExhausted, message)
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(table) = self.table.upgrade() {
            table.leave(self.number);
        }
    }
}
