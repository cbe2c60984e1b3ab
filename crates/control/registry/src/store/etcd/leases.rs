//! etcd's leases: keys that end at about the same time share one.
//!
//! A key that is written again moves to the lease of its new end, and an empty lease ends without a
//! revision. A new leader begins each lease anew, so that none ends early by a failover.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};

use super::{
    cluster::{self, Cluster},
    pb,
};
use crate::store::StoreError;

/// Into how many parts the time after the end is cut: a part's keys share a lease, and end at its
/// end. A process has as many leases, and asks for a new one that often.
const PARTS: u32 = 64;
/// etcd counts seconds.
const SHORTEST: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Leases {
    backstop: Duration,
    part: Duration,
    start: Instant,
    /// By the part in which they end.
    known: Mutex<BTreeMap<u64, Arc<OnceCell<i64>>>>,
}

/// A lease in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) id: i64,
    part: u64,
}

impl Leases {
    pub(super) fn new(backstop: Duration) -> Self {
        Self {
            backstop,
            part: (backstop / PARTS).max(SHORTEST),
            start: Instant::now(),
            known: Mutex::default(),
        }
    }

    fn part_of(&self, time: Duration) -> u64 {
        u64::try_from(time.as_nanos() / self.part.as_nanos()).unwrap_or(u64::MAX)
    }

    /// A lease that ends no sooner than the backstop after `left`.
    pub(super) async fn hold(&self, cluster: &Cluster, left: Duration) -> Result<Held, StoreError> {
        let now = self.start.elapsed();
        let part = self.part_of(now.saturating_add(left).saturating_add(self.backstop));
        let cell = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|part, _| *part >= self.part_of(now));
            Arc::clone(known.entry(part).or_default())
        };
        let end = u32::try_from(part.saturating_add(1)).unwrap_or(u32::MAX);
        let end = self.part.saturating_mul(end);
        let ttl = end.saturating_sub(now) + SHORTEST;
        let id = cell
            .get_or_try_init(|| grant(cluster, ttl.as_secs()))
            .await?;
        Ok(Held { id: *id, part })
    }

    /// It is gone: the next one who needs it gets another.
    pub(super) fn forget(&self, held: &Held) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .get(&held.part)
            .is_some_and(|cell| cell.get() == Some(&held.id))
        {
            known.remove(&held.part);
        }
    }
}

async fn grant(cluster: &Cluster, seconds: u64) -> Result<i64, StoreError> {
    let question = pb::LeaseGrantRequest {
        ttl: i64::try_from(seconds).unwrap_or(i64::MAX),
        ..Default::default()
    };
    let answer: pb::LeaseGrantResponse = cluster.ask(cluster::GRANT, &question).await?.answer;
    if answer.error.is_empty() {
        return Ok(answer.id);
    }
    Err(StoreError::Refused {
        members: cluster.name().to_owned(),
        cause: answer.error,
    })
}
