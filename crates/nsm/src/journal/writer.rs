//! The thread that writes: what came meanwhile is one commit, and of one id only the last counts.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use nsm_chain::{Journal, Written};
use redb::{Database, Durability, TableDefinition};
use tokio::sync::{oneshot, watch};

use super::file::{self, META, WHOLE, YES};

/// How long a disk that refuses is left alone.
const AGAIN: Duration = Duration::from_secs(1);
/// How long nothing is to be written before the file is cut: what comes meanwhile waits for it.
const QUIET: Duration = Duration::from_secs(5);

/// What records are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Connections,
    Endpoints,
    /// Endpoints that take nobody new, by name.
    Drained,
    /// Hops that were asked for anything, by where they are.
    Peers,
    /// Closes that are owed, by connection and hop.
    Owed,
}

impl Table {
    pub(super) const ALL: [Self; 5] = [
        Self::Connections,
        Self::Endpoints,
        Self::Drained,
        Self::Peers,
        Self::Owed,
    ];

    pub(super) fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(match self {
            Self::Connections => "connections",
            Self::Endpoints => "endpoints",
            Self::Drained => "drained",
            Self::Peers => "peers",
            Self::Owed => "owed",
        })
    }
}

/// Records that wait, by what they are about; none stands for one that is struck. There is one for
/// each id at most: a disk that stands still takes the memory of its role's items, and a key for
/// each that has gone meanwhile.
type Waiting = BTreeMap<(Table, String), Option<Vec<u8>>>;

#[derive(Default)]
struct Queue {
    waiting: Waiting,
    /// Who waits for what waits; dropped when it is written.
    waited: Vec<oneshot::Sender<()>>,
    /// Nothing is missing any more.
    whole: bool,
    ended: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    came: Condvar,
    written: watch::Sender<bool>,
}

/// What is to be done.
struct Taken {
    batch: Waiting,
    waited: Vec<oneshot::Sender<()>>,
    whole: bool,
    ended: bool,
}

impl Shared {
    /// What waits, as soon as anything does; none when nothing has come for so long.
    fn take(&self, limit: Option<Duration>) -> Option<Taken> {
        let idle = |queue: &mut Queue| {
            queue.waiting.is_empty() && queue.waited.is_empty() && !queue.whole && !queue.ended
        };
        let queue = self.queue();
        let mut queue = match limit {
            Some(limit) => {
                let waited = self.came.wait_timeout_while(queue, limit, idle);
                let (queue, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                if waited.timed_out() {
                    return None;
                }
                queue
            }
            None => {
                let waited = self.came.wait_while(queue, idle);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
        Some(Taken {
            batch: std::mem::take(&mut queue.waiting),
            waited: std::mem::take(&mut queue.waited),
            whole: std::mem::take(&mut queue.whole),
            ended: queue.ended,
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module. Dropping it writes what waits.
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(path: PathBuf, database: Database) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            came: Condvar::new(),
            written: watch::Sender::new(true),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || run(&path, database, &theirs))
            .context("starting the journal's thread")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Whether commits go through.
    pub(super) fn written(&self) -> watch::Receiver<bool> {
        self.shared.written.subscribe()
    }

    /// From the next commit on the file says that nothing is missing in it.
    pub(super) fn whole(&self) {
        self.shared.queue().whole = true;
        self.shared.came.notify_one();
    }

    fn write(&self, table: Table, id: &str, record: Option<Vec<u8>>) {
        let mut queue = self.shared.queue();
        queue.waiting.insert((table, id.to_owned()), record);
        self.shared.came.notify_one();
    }

    /// When all that was said is in the file.
    fn settled(&self) -> Written {
        let (done, written) = Written::pending();
        let mut queue = self.shared.queue();
        // Nobody waits for a disk that refuses.
        if *self.shared.written.borrow() {
            // Nor for one that stands still, beyond the patience of whoever waits.
            queue.waited.retain(|waits| !waits.is_closed());
            queue.waited.push(done);
        }
        self.shared.came.notify_one();
        written
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue().ended = true;
        self.shared.came.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread panicked");
        }
    }
}

/// Until the writer is dropped and nothing waits, or the disk refuses then.
fn run(path: &Path, database: Database, shared: &Shared) {
    let mut database = Some(database);
    let mut failing = false;
    let mut uncut = true;
    loop {
        let Some(Taken {
            batch,
            waited,
            whole,
            ended,
        }) = shared.take(uncut.then_some(QUIET))
        else {
            uncut = false;
            cut(path, &mut database);
            continue;
        };
        uncut = true;
        if batch.is_empty() && !whole {
            if ended {
                return;
            }
            // What was said before is written already: they are let go.
            continue;
        }
        let done = attempt(path, &mut database, &batch, whole);
        drop(waited);
        match done {
            Ok(()) if failing => {
                failing = false;
                shared.written.send_replace(true);
                tracing::info!(path = ?path, "the journal can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                if !failing {
                    tracing::error!(
                        path = ?path,
                        %error,
                        "the journal cannot be written: connections go on, and are asked for again after a restart; \
                         check free space and permissions"
                    );
                }
                failing = true;
                shared.written.send_replace(false);
                put_back(shared, batch);
                shared.queue().whole |= whole;
                if ended {
                    return;
                }
                std::thread::sleep(AGAIN);
            }
        }
    }
}

/// Gives back what a crowd took that is gone: pages are used again, but the file is never cut else.
fn cut(path: &Path, database: &mut Option<Database>) {
    // One that failed is opened again when there is something to write.
    let Some(mut open) = database.take() else {
        return;
    };
    let done = catch_unwind(AssertUnwindSafe(|| {
        file::cut(path, &mut open)?;
        anyhow::Ok(open)
    }));
    let done = done.unwrap_or_else(|_| Err(anyhow!("it cannot be read any more")));
    // Opened again at once where that went wrong: nobody else may take it meanwhile.
    let open = done.or_else(|error| {
        tracing::warn!(path = ?path, %error, "the journal could not be cut and is opened again");
        file::again(path)
    });
    match open {
        Ok(open) => *database = Some(open),
        Err(error) => tracing::error!(
            path = ?path,
            %error,
            "the journal cannot be opened: it is tried again with the next thing to write; check free \
             space and permissions"
        ),
    }
}

/// A database that has failed once fails for ever: then the file is opened again.
fn attempt(
    path: &Path,
    database: &mut Option<Database>,
    batch: &Waiting,
    whole: bool,
) -> anyhow::Result<()> {
    let known = database.take();
    let done = catch_unwind(AssertUnwindSafe(|| {
        let open = match known {
            Some(open) => open,
            None => file::again(path)?,
        };
        commit(&open, batch, whole)?;
        anyhow::Ok(open)
    }));
    let done = done.unwrap_or_else(|_| Err(anyhow!("it cannot be read any more")));
    *database = Some(done?);
    Ok(())
}

/// What was written meanwhile is newer.
fn put_back(shared: &Shared, batch: Waiting) {
    let mut queue = shared.queue();
    for (key, record) in batch {
        queue.waiting.entry(key).or_insert(record);
    }
}

fn commit(database: &Database, batch: &Waiting, whole: bool) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    for table in Table::ALL {
        let mut rows = transaction.open_table(table.definition())?;
        for ((_, id), record) in batch.iter().filter(|((of, _), _)| *of == table) {
            match record {
                Some(record) => rows.insert(id.as_str(), record.as_slice())?,
                None => rows.remove(id.as_str())?,
            };
        }
    }
    if whole {
        transaction.open_table(META)?.insert(WHOLE, YES)?;
    }
    transaction.commit()?;
    Ok(())
}

/// The journal of one kind of item.
pub(super) struct Kind {
    pub(super) writer: Arc<Writer>,
    pub(super) table: Table,
}

impl Journal for Kind {
    fn keep(&self, id: &str, record: Vec<u8>) {
        self.writer.write(self.table, id, Some(record));
    }

    fn forget(&self, id: &str) {
        self.writer.write(self.table, id, None);
    }

    fn written(&self) -> Written {
        self.writer.settled()
    }
}
