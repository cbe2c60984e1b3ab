//! Processes of one thread: each owns its tasks, which end with it at whichever await they stand.

use std::{
    cell::RefCell,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use nsm_chain::seam::Spawner;
use tokio::{task::AbortHandle, time::Instant};
use tokio_util::sync::CancellationToken;

/// How many ended tasks a process may remember before it forgets them.
const FORGET: usize = 256;

/// One incarnation of a process: a restart makes another one.
#[derive(Debug)]
pub struct Process {
    name: String,
    node: usize,
    life: CancellationToken,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    dead: bool,
    /// It is killed after so many more polls of its tasks.
    polls: Option<u32>,
    tasks: Vec<AbortHandle>,
    panic: Option<String>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Process>>> = const { RefCell::new(None) };
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Scoped {
    process: Arc<Process>,
    work: Option<Work>,
}

impl Process {
    /// A new process on a node.
    #[must_use]
    pub fn new(name: &str, node: usize) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            node,
            life: CancellationToken::new(),
            began: Instant::now(),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its node's number.
    #[must_use]
    pub fn node(&self) -> usize {
        self.node
    }

    /// When it was started.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Cancelled when it ends.
    #[must_use]
    pub fn life(&self) -> &CancellationToken {
        &self.life
    }

    /// Whether it runs.
    #[must_use]
    pub fn alive(&self) -> bool {
        !self.state().dead
    }

    /// How many tasks of it run.
    #[must_use]
    pub fn tasks(&self) -> usize {
        let state = self.state();
        state.tasks.iter().filter(|one| !one.is_finished()).count()
    }

    /// What a task of it panicked with.
    #[must_use]
    pub fn panic(&self) -> Option<String> {
        self.state().panic.clone()
    }

    /// Ends it now: every task is dropped where it stands.
    pub fn kill(&self) {
        let tasks = {
            let mut state = self.state();
            state.dead = true;
            std::mem::take(&mut state.tasks)
        };
        for task in tasks {
            task.abort();
        }
        self.life.cancel();
    }

    /// Ends it after so many more polls of its tasks: at an await that nobody chose.
    pub fn kill_after(&self, polls: u32) {
        self.state().polls = Some(polls);
    }

    /// Runs a task of it.
    pub fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        self.spawn_boxed(Box::pin(work));
    }

    fn spawn_boxed(self: &Arc<Self>, work: Work) {
        if !self.alive() {
            return;
        }
        let scoped = Scoped {
            process: Arc::clone(self),
            work: Some(work),
        };
        let task = tokio::spawn(scoped).abort_handle();
        let mut state = self.state();
        if state.tasks.len() >= FORGET {
            state.tasks.retain(|one| !one.is_finished());
        }
        state.tasks.push(task);
    }

    /// Does something as this process: what it spawns is its own.
    pub fn enter<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(Some(Arc::clone(self)));
        let done = work();
        CURRENT.set(before);
        done
    }

    /// One more poll; whether it was the last.
    fn polled(&self) -> bool {
        let mut state = self.state();
        match &mut state.polls {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}

impl Future for Scoped {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let process = Arc::clone(&self.process);
        if !process.alive() {
            self.work = None;
            return Poll::Ready(());
        }
        let Some(work) = self.work.as_mut() else {
            return Poll::Ready(());
        };
        let polled =
            process.enter(|| catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))));
        let done = match polled {
            Ok(done) => done,
            Err(panic) => {
                let said = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                process.state().panic = Some(said.unwrap_or_default());
                Poll::Ready(())
            }
        };
        if done.is_pending() && process.polled() {
            process.kill();
            self.work = None;
            return Poll::Ready(());
        }
        if done.is_ready() {
            self.work = None;
        }
        done
    }
}

/// Whose task runs on this thread now.
#[must_use]
pub fn current() -> Option<Arc<Process>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Gives every task to the process that began it.
#[derive(Debug)]
pub struct Owners {
    /// Owns what nobody's process began.
    pub world: Arc<Process>,
}

impl Spawner for Owners {
    fn spawn(&self, task: Work) {
        let owner = current();
        owner.as_ref().unwrap_or(&self.world).spawn_boxed(task);
    }
}
