//! The store that several registries share: an etcd cluster.
//!
//! Revisions are etcd's. A write is one transaction: if the key's revision is as expected, the
//! value goes in, else what is there comes back. It carries a mark of its own, so that a write
//! whose answer was lost is recognised when it is tried again, at another member: it is never
//! acknowledged unless it is there, and never done twice.
//!
//! Nothing here expires by an absolute time: with each row stands how long it had left when it was
//! written, and a reader whose clock disagrees counts from when it saw the row. A lease of etcd's
//! lets go of what no registry ended, long after (`BACKSTOP`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use nsm_chain::Tasks;
use tokio_util::sync::DropGuard;

use super::{Age, Entry, Expect, Listing, Past, Store, StoreError, Watch, age};
use crate::Clock;

mod cluster;
mod dial;
#[rustfmt::skip]
#[allow(warnings, clippy::all)]
mod generated;
mod leases;
mod row;
mod settings;
mod stream;

use cluster::Cluster;
use generated::etcdserverpb as pb;
use leases::Leases;
use row::Row;
pub use settings::{Account, EtcdSettings, EtcdUrl, Tls};

/// How long after its end etcd keeps what no registry ended: as long as an uncertain hop keeps
/// packets flowing. With every registry away nobody can renew, so that silence says nothing.
pub const BACKSTOP: Duration = Duration::from_secs(24 * 60 * 60);

/// How many rows are listed by one question: at most 64 MiB with rows of the largest size.
const PAGE: i64 = 256;

/// How often a listing begins anew because etcd compacted its revision away meanwhile.
const LISTINGS: usize = 3;

/// How often a write that expects nothing is decided anew because somebody else got in between.
const MAX_ATTEMPTS: usize = 32;

/// The key of the age's name.
const AGE: &str = "age";

/// Mark of a comparison with the revision of the last write.
const MOD: i32 = 2;

/// See the module.
#[derive(Debug)]
pub struct EtcdStore {
    cluster: Arc<Cluster>,
    prefix: String,
    clock: Arc<dyn Clock>,
    leases: Leases,
    /// The first half of each write's mark: this process.
    process: u64,
    /// The second half: the write.
    writes: AtomicU64,
    tasks: Tasks,
    _end: DropGuard,
}

/// What a conditional write came to.
enum Outcome {
    Done(u64),
    /// It did not happen; this is there.
    Found(Option<pb::KeyValue>),
}

impl EtcdStore {
    /// The store of these settings; nothing is sent yet.
    ///
    /// # Errors
    /// A file of the settings that cannot be read or used.
    pub fn open(settings: &EtcdSettings, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let tasks = Tasks::new();
        let process = age().ok_or_else(|| StoreError::Refused {
            members: settings.url.to_string(),
            cause: "the system has no random numbers".to_owned(),
        })?;
        let end = tasks.guard();
        Ok(Self {
            cluster: Arc::new(Cluster::new(settings, &tasks)?),
            prefix: settings.url.prefix.clone(),
            clock,
            leases: Leases::new(settings.backstop),
            process,
            writes: AtomicU64::new(0),
            tasks,
            _end: end,
        })
    }

    /// Whether a majority of the cluster answers.
    ///
    /// # Errors
    /// Why not.
    pub async fn reach(&self) -> Result<(), StoreError> {
        self.read(&format!("{}reach", self.prefix)).await.map(drop)
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// What a key has at this moment, agreed by a majority.
    async fn read(&self, key: &str) -> Result<Option<pb::KeyValue>, StoreError> {
        let question = pb::RangeRequest {
            key: key.into(),
            ..Default::default()
        };
        let answer: pb::RangeResponse = self.cluster.ask(cluster::RANGE, &question).await?.answer;
        Ok(answer.kvs.into_iter().next())
    }

    /// Writes if the key's revision is this one (0: absent).
    async fn write(
        &self,
        key: &str,
        revision: u64,
        operation: pb::RequestOp,
    ) -> Result<Outcome, StoreError> {
        let question = pb::TxnRequest {
            compare: vec![pb::Compare {
                target: MOD,
                key: key.into(),
                mod_revision: signed(revision),
                ..Default::default()
            }],
            success: vec![operation],
            failure: vec![pb::RequestOp {
                request_range: buffa::MessageField::some(pb::RangeRequest {
                    key: key.into(),
                    ..Default::default()
                }),
                ..Default::default()
            }],
            ..Default::default()
        };
        let done = self.cluster.ask(cluster::TXN, &question).await?;
        let answer: pb::TxnResponse = done.answer;
        if answer.succeeded {
            return Ok(Outcome::Done(unsigned(answer.header.revision)));
        }
        let found = answer.responses.into_iter().next();
        let found = found.and_then(|one| one.response_range.into_option());
        let found = found.and_then(|range| range.kvs.into_iter().next());
        Ok(match self.ours(found.as_ref(), &question) {
            // An attempt before, whose answer was lost, did it.
            Some(revision) if done.attempts > 1 => Outcome::Done(revision),
            _ => Outcome::Found(found),
        })
    }

    /// The revision of what was found, if this very write put it there, or ended what was there.
    fn ours(&self, found: Option<&pb::KeyValue>, question: &pb::TxnRequest) -> Option<u64> {
        let operation = question.success.first()?;
        let expected = question.compare.first()?.mod_revision;
        if operation.request_delete_range.is_set() {
            // Gone, or made anew after that: it has been deleted. When, nobody knows any more.
            let gone = found.is_none_or(|kv| kv.create_revision > expected);
            return gone.then_some(0);
        }
        let found = found?;
        let mark = |value: &[u8]| Row::read(value).map(|row| row.mark).ok();
        (mark(&found.value)? == mark(&operation.request_put.value)?)
            .then(|| unsigned(found.mod_revision))
    }

    async fn put_at(
        &self,
        key: &str,
        value: &[u8],
        revision: u64,
        lease: Option<SystemTime>,
    ) -> Result<Outcome, StoreError> {
        let left = lease.map(|lease| lease.duration_since(self.clock.now()).unwrap_or_default());
        let row = Row {
            lease,
            left,
            mark: (self.process, self.writes.fetch_add(1, Ordering::Relaxed)),
            value,
        };
        let value = row.write();
        loop {
            let held = match left {
                Some(left) => Some(self.leases.hold(&self.cluster, left).await?),
                None => None,
            };
            let operation = pb::RequestOp {
                request_put: buffa::MessageField::some(pb::PutRequest {
                    key: key.into(),
                    value: value.clone(),
                    lease: held.as_ref().map_or(0, |held| held.id),
                    ..Default::default()
                }),
                ..Default::default()
            };
            match (self.write(key, revision, operation).await, held) {
                // Somebody revoked it, or etcd was restored from a copy: another one.
                (Err(StoreError::NoLease), Some(held)) => self.leases.forget(&held),
                (done, _) => return done,
            }
        }
    }

    async fn delete_at(&self, key: &str, revision: u64) -> Result<Outcome, StoreError> {
        let operation = pb::RequestOp {
            request_delete_range: buffa::MessageField::some(pb::DeleteRangeRequest {
                key: key.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.write(key, revision, operation).await
    }

    async fn pages(&self, prefix: &str) -> Result<Listing, StoreError> {
        let (mut from, end) = (prefix.as_bytes().to_vec(), settings::after(prefix));
        let (mut entries, mut revision) = (Vec::new(), 0);
        loop {
            let question = pb::RangeRequest {
                key: from,
                range_end: end.clone(),
                limit: PAGE,
                revision,
                ..Default::default()
            };
            let asked = self.cluster.ask(cluster::RANGE, &question).await?;
            let page: pb::RangeResponse = asked.answer;
            if revision == 0 {
                revision = page.header.revision;
            }
            let last = page.kvs.last().map(|kv| kv.key.clone());
            let now = self.clock.now();
            entries.extend(page.kvs.iter().filter_map(|kv| {
                let entry = row::entry(&self.prefix, kv, now);
                entry.map_err(|error| error.log()).ok()
            }));
            let (true, Some(mut next)) = (page.more, last) else {
                return Ok(Listing {
                    entries,
                    revision: unsigned(revision),
                });
            };
            next.push(0);
            from = next;
        }
    }
}

fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

fn revision_of(found: Option<&pb::KeyValue>) -> Option<u64> {
    found.map(|kv| unsigned(kv.mod_revision))
}

/// The revision to compare with, where the caller names one.
fn named(expect: Expect) -> Option<u64> {
    match expect {
        Expect::Any => None,
        Expect::Absent => Some(0),
        Expect::Revision(revision) => Some(revision),
    }
}

fn conflict(key: &str, found: Option<&pb::KeyValue>) -> StoreError {
    StoreError::Conflict {
        key: key.to_owned(),
        found: revision_of(found),
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let Some(found) = self.read(&self.key(key)).await? else {
            return Ok(None);
        };
        row::entry(&self.prefix, &found, self.clock.now())
            .map(Some)
            .map_err(|error| StoreError::Refused {
                members: self.cluster.name().to_owned(),
                cause: error.to_string(),
            })
    }

    async fn put(
        &self,
        key: &str,
        value: Arc<[u8]>,
        expect: Expect,
        lease: Option<SystemTime>,
    ) -> Result<u64, StoreError> {
        let place = self.key(key);
        let mut found = None;
        if named(expect).is_none() {
            found = self.read(&place).await?;
        }
        for _ in 0..MAX_ATTEMPTS {
            let revision = named(expect).or(revision_of(found.as_ref())).unwrap_or(0);
            match self.put_at(&place, &value, revision, lease).await? {
                Outcome::Done(revision) => return Ok(revision),
                Outcome::Found(there) if named(expect).is_some() => {
                    return Err(conflict(key, there.as_ref()));
                }
                Outcome::Found(there) => found = there,
            }
        }
        Err(conflict(key, found.as_ref()))
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Option<u64>, StoreError> {
        let place = self.key(key);
        let mut found = None;
        if named(expect).is_none_or(|revision| revision == 0) {
            found = self.read(&place).await?;
            expect.check(key, revision_of(found.as_ref()))?;
        }
        for _ in 0..MAX_ATTEMPTS {
            let wanted = named(expect).filter(|revision| *revision > 0);
            let Some(revision) = wanted.or(revision_of(found.as_ref())) else {
                return Ok(None);
            };
            match self.delete_at(&place, revision).await? {
                Outcome::Done(revision) => return Ok(Some(revision).filter(|known| *known > 0)),
                Outcome::Found(there) if wanted.is_some() => {
                    return Err(conflict(key, there.as_ref()));
                }
                Outcome::Found(there) => found = there,
            }
        }
        Err(conflict(key, found.as_ref()))
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let prefix = self.key(prefix);
        let mut listing = self.pages(&prefix).await;
        for _ in 1..LISTINGS {
            if !matches!(listing, Err(StoreError::Compacted { .. })) {
                break;
            }
            listing = self.pages(&prefix).await;
        }
        listing
    }

    /// Its age stands beside the records, so that an etcd that was made anew has another one;
    /// deletions are known from here on.
    async fn past(&self, _prefix: &str, listed: u64) -> Result<Past, StoreError> {
        let mut kept = self.get(AGE).await?;
        if kept.is_none() {
            let mine = self.process.to_le_bytes();
            match self.put(AGE, Arc::from(mine), Expect::Absent, None).await {
                Ok(_) | Err(StoreError::Conflict { .. }) => kept = self.get(AGE).await?,
                Err(error) => return Err(error),
            }
        }
        let name = kept.and_then(|entry| entry.value.first_chunk().copied());
        let name = name.map(u64::from_le_bytes);
        Ok(Past {
            ages: name.map(|name| Age { name, from: 0 }).into_iter().collect(),
            since: listed,
            deleted: Vec::new(),
        })
    }

    async fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError> {
        Ok(stream::start(
            &self.cluster,
            stream::Wanted {
                below: self.prefix.clone(),
                prefix: self.key(prefix),
                after,
            },
            &self.clock,
            &self.tasks,
        ))
    }
}
