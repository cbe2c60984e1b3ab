//! A watch that outlives its member: it goes on at another one, from the last revision seen.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use nsm_chain::{Backoff, Tasks};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{cluster::Cluster, pb, row, settings::after, signed, unsigned};
use crate::{
    Clock,
    store::{Change, HISTORY, StoreError, Watch},
};

/// After this time without a word a member is asked for one; after as much again it is passed over.
const QUIET: Duration = Duration::from_secs(1);
/// The first and the longest wait between two attempts.
const WAIT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How often a failure that lasts is told.
const TELL_EVERY: u32 = 30;
/// etcd's mark of a deletion.
const DELETE: i32 = 1;

/// What is watched.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What keys begin with that is no part of the store's own keys.
    pub(super) below: String,
    /// What etcd's keys begin with.
    pub(super) prefix: String,
    /// The last revision that is known already.
    pub(super) after: u64,
}

struct Pump {
    cluster: Arc<Cluster>,
    wanted: Wanted,
    clock: Arc<dyn Clock>,
    live: mpsc::Sender<Change>,
}

/// Why a stream ended.
enum End {
    /// The watch goes on elsewhere.
    Broken(StoreError),
    /// It cannot.
    Over(StoreError),
    /// Nobody reads it any more.
    Unread,
}

/// Begins a watch; it ends when nobody reads it any more, and when etcd has forgotten what it asks
/// for.
pub(super) fn start(
    cluster: &Arc<Cluster>,
    wanted: Wanted,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> Watch {
    let (send, live) = mpsc::channel(HISTORY);
    let end = Arc::new(OnceLock::new());
    let pump = Pump {
        cluster: Arc::clone(cluster),
        wanted,
        clock: Arc::clone(clock),
        live: send.clone(),
    };
    let ended = Arc::clone(&end);
    tasks.spawn(async move {
        tokio::select! {
            biased;
            () = send.closed() => {}
            why = pump.run() => {
                // Told before `send` is dropped, which is what the reader waits for.
                let _first = ended.set(why);
            }
        }
    });
    Watch::fed(live, end)
}

impl Pump {
    async fn run(mut self) -> StoreError {
        let mut backoff = Backoff::new(WAIT.0, WAIT.1);
        for failures in 0_u32.. {
            let before = self.wanted.after;
            match self.follow().await {
                End::Over(error) => return error,
                End::Unread => break,
                End::Broken(error) => {
                    if self.wanted.after > before {
                        backoff.reset();
                    }
                    if failures.is_multiple_of(TELL_EVERY) {
                        tracing::warn!(%error, after = self.wanted.after, "the watch goes on at another member");
                    }
                }
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
        StoreError::Closed
    }

    async fn follow(&mut self) -> End {
        let (ask, questions) = mpsc::channel(2);
        let create = pb::WatchCreateRequest {
            key: self.wanted.prefix.clone().into(),
            range_end: after(&self.wanted.prefix),
            start_revision: signed(self.wanted.after.saturating_add(1)),
            ..Default::default()
        };
        let create = pb::WatchRequest {
            create_request: buffa::MessageField::some(create),
            ..Default::default()
        };
        let _room_for_two = ask.try_send(create);
        let (at, mut answers) = match self.cluster.watch(ReceiverStream::new(questions)).await {
            Ok(opened) => opened,
            Err((at, status)) => return End::Broken(self.cluster.broke(at, &status)),
        };
        loop {
            let answer = match next(&mut answers, &ask).await {
                Ok(answer) => answer,
                Err(status) => return End::Broken(self.cluster.broke(at, &status)),
            };
            if let Err(end) = self.take(at, answer).await {
                return end;
            }
        }
    }

    async fn take(&mut self, at: usize, answer: pb::WatchResponse) -> Result<(), End> {
        if answer.compact_revision > 0 {
            return Err(End::Over(StoreError::Compacted {
                after: self.wanted.after,
                oldest: unsigned(answer.compact_revision),
            }));
        }
        if answer.canceled {
            let status = Status::unavailable(answer.cancel_reason);
            return Err(End::Broken(self.cluster.broke(at, &status)));
        }
        for event in &answer.events {
            let Some(kv) = event.kv.as_option() else {
                continue;
            };
            let revision = unsigned(kv.mod_revision);
            self.wanted.after = self.wanted.after.max(revision);
            let change = if event.r#type == DELETE {
                row::key(&self.wanted.below, &kv.key).map(|key| Change::Delete { key, revision })
            } else {
                row::entry(&self.wanted.below, kv, self.clock.now()).map(Change::Put)
            };
            match change {
                Ok(change) => {
                    let sent = self.live.send(change).await;
                    sent.map_err(|_| End::Unread)?;
                }
                Err(error) => error.log(),
            }
        }
        Ok(())
    }
}

/// The next answer of a member that lives.
async fn next(
    answers: &mut Streaming<pb::WatchResponse>,
    ask: &mpsc::Sender<pb::WatchRequest>,
) -> Result<pb::WatchResponse, Status> {
    for asked in [false, true] {
        match timeout(QUIET, answers.message()).await {
            Ok(Ok(Some(answer))) => return Ok(answer),
            Ok(Ok(None)) => return Err(Status::unavailable("the member ended the watch")),
            Ok(Err(status)) => return Err(status),
            Err(_) if asked => break,
            Err(_) => {
                let question = pb::WatchRequest {
                    progress_request: buffa::MessageField::some(Default::default()),
                    ..Default::default()
                };
                let _full_or_ended = ask.try_send(question);
            }
        }
    }
    Err(Status::deadline_exceeded("the member is silent"))
}
