//! Deletes what was closed, away from whoever waits for an answer.
//!
//! A delete waits about 17 ms for other CPUs, but deletes in different threads wait at the same
//! time.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{KernelError, NetnsError};
use crate::messages::{Place, delete_link};
use crate::netlink::Socket;
use crate::netns::NetnsFd;

/// Threads: 16 bring a delete's share of the wait from 17 ms to 2.5; each costs a stack and a
/// socket.
pub const THREADS: usize = 16;
/// Links that wait. Beyond it a close waits for room, which is what slows a storm of closes down.
const QUEUE: usize = 4096;
/// A refused delete (no memory, a device busy in another operation) is tried again this often.
const TRIES: u32 = 5;
/// Pause before a refused delete is tried again.
const PAUSE: Duration = Duration::from_millis(50);
/// Their job is one system call.
const STACK_BYTES: usize = 256 * 1024;

/// Links that wait for their time, and then in the queue.
type Later = SyncSender<(Instant, Corpse)>;

/// A link to delete, by a name that only a retired link of ours has.
#[derive(Clone, Debug)]
pub(crate) struct Corpse {
    pub(crate) place: Place,
    pub(crate) name: String,
}

#[derive(Debug, Default)]
struct Waiting {
    count: Mutex<usize>,
    empty: Condvar,
}

/// Threads that delete retired links. Drop waits until the queue is empty, then joins them.
#[derive(Debug)]
pub struct Reaper {
    queue: Option<SyncSender<Corpse>>,
    later: Option<Later>,
    waiting: Arc<Waiting>,
    threads: Vec<JoinHandle<()>>,
}

impl Reaper {
    /// Starts the threads; their sockets belong to `node`.
    ///
    /// # Errors
    /// When a thread or a socket cannot be had.
    pub fn start(node: &NetnsFd) -> Result<Self, NetnsError> {
        let (sender, receiver) = sync_channel(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        let waiting = Arc::new(Waiting::default());
        let mut threads = Vec::with_capacity(THREADS);
        for n in 0..THREADS {
            let (receiver, waiting, node) =
                (Arc::clone(&receiver), Arc::clone(&waiting), node.clone());
            let builder = thread::Builder::new()
                .name(format!("reaper-{n}"))
                .stack_size(STACK_BYTES);
            let thread = builder.spawn(move || reap(&receiver, &waiting, &node));
            threads.push(thread.map_err(|e| KernelError::io("start", "reaper thread", &e))?);
        }
        let (later, due) = sync_channel(QUEUE);
        let queue = sender.clone();
        let builder = thread::Builder::new().name("reaper-later".to_owned());
        let thread = builder
            .stack_size(STACK_BYTES)
            .spawn(move || defer(&due, &queue));
        threads.push(thread.map_err(|e| KernelError::io("start", "reaper thread", &e))?);
        Ok(Self {
            queue: Some(sender),
            later: Some(later),
            waiting,
            threads,
        })
    }

    /// Takes a retired link. Waits while the queue is full.
    pub(crate) fn bury(&self, corpse: Corpse) {
        *self
            .waiting
            .count
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += 1;
        let sent = self
            .queue
            .as_ref()
            .is_some_and(|queue| queue.send(corpse).is_ok());
        if !sent {
            self.waiting.done();
        }
    }

    /// Takes a retired link that is deleted after a while. All wait equally long.
    pub(crate) fn bury_after(&self, pause: Duration, corpse: Corpse) {
        *self
            .waiting
            .count
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += 1;
        let due = Instant::now() + pause;
        let later = self.later.as_ref();
        let sent = later.is_some_and(|later| later.send((due, corpse)).is_ok());
        if !sent {
            self.waiting.done();
        }
    }

    /// Retired links that are not deleted yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        *self
            .waiting
            .count
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything retired so far is deleted, at most `limit`. True when nothing is
    /// left.
    #[must_use]
    pub fn wait_idle(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut count = self
            .waiting
            .count
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.waiting.empty.wait_timeout(count, left);
            count = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.later = None;
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A panic there was logged by the runtime; the others still have to be waited for.
            let _ = thread.join();
        }
    }
}

impl Waiting {
    fn done(&self) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.empty.notify_all();
        }
    }
}

/// Passes on what is due, in the order in which it came.
fn defer(later: &Receiver<(Instant, Corpse)>, queue: &SyncSender<Corpse>) {
    while let Ok((due, corpse)) = later.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // The threads end after this one.
        let _ = queue.send(corpse);
    }
}

fn reap(queue: &Mutex<Receiver<Corpse>>, waiting: &Waiting, node: &NetnsFd) {
    let home = rustix::thread::move_into_link_name_space(
        std::os::fd::AsFd::as_fd(node),
        Some(rustix::thread::LinkNameSpaceType::Network),
    );
    if let Err(error) = home {
        // Namespaces' numbers mean something else anywhere else.
        tracing::error!(%error, "reaper cannot reach the node's namespace and ends");
        return;
    }
    let mut socket = Socket::open();
    loop {
        let corpse = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(corpse) = corpse else { return };
        if socket.is_err() {
            socket = Socket::open();
        }
        match &mut socket {
            Ok(socket) => delete(socket, &corpse),
            Err(error) => tracing::error!(%error, link = corpse.name, "closed link is left behind"),
        }
        waiting.done();
    }
}

fn delete(socket: &mut Socket, corpse: &Corpse) {
    for attempt in 1..=TRIES {
        match socket.query(delete_link(corpse.place, &corpse.name)) {
            Ok(_) => return,
            // Gone with its peer, or with its namespace.
            Err(error) if error.is_gone() || error.errno == libc::EINVAL => return,
            Err(error) if attempt == TRIES => tracing::error!(%error, "closed link is left behind"),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
