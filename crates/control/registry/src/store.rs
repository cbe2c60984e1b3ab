//! Where the registry keeps what was registered: one small trait, and who implements it.
//!
//! Every write has a revision of its own, counted up by one over all keys, so that a reader that
//! lists at revision R and then watches from R misses nothing and sees nothing twice. The index and
//! the fan-out to watchers are above this trait, written once.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use async_trait::async_trait;

#[cfg(feature = "etcd")]
pub mod etcd;
pub mod kit;
mod log;
pub mod memory;
pub mod redb;

pub use self::log::{HISTORY, Watch};

/// One key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// The value, the caller's bytes.
    pub value: Arc<[u8]>,
    /// The revision of the write that put it there.
    pub revision: u64,
    /// When it may be deleted because nobody renewed it. The registry above deletes it; a store
    /// that is able to (etcd) does so as well.
    pub lease: Option<SystemTime>,
}

/// One write, as a watcher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key got this value.
    Put(Entry),
    /// A key is gone.
    Delete {
        /// The key.
        key: Arc<str>,
        /// The revision of the deletion.
        revision: u64,
    },
}

impl Change {
    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision of the write.
    #[must_use]
    pub fn revision(&self) -> u64 {
        match self {
            Self::Put(entry) => entry.revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// What must be there for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything or nothing.
    Any,
    /// Nothing.
    Absent,
    /// The value of exactly this revision.
    Revision(u64),
}

impl Expect {
    /// Whether a key whose value has this revision may be written.
    ///
    /// # Errors
    /// [`StoreError::Conflict`].
    pub fn check(self, key: &str, found: Option<u64>) -> Result<(), StoreError> {
        let holds = match self {
            Self::Any => true,
            Self::Absent => found.is_none(),
            Self::Revision(revision) => found == Some(revision),
        };
        if holds {
            return Ok(());
        }
        Err(StoreError::Conflict {
            key: key.to_owned(),
            found,
        })
    }
}

/// Everything below a prefix at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The entries, by key.
    pub entries: Vec<Entry>,
    /// The revision of the last write that they include: watch from here.
    pub revision: u64,
}

/// One life of a store: within it a revision means one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// No two ages of any stores have one name, but by a chance of one in 2^64.
    pub name: u64,
    /// The revision of the last write before it.
    pub from: u64,
}

/// What a store knows of the time before it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// Its ages, the present one last. Without any, nobody can say where he was.
    pub ages: Vec<Age>,
    /// Every deletion after this revision is known.
    pub since: u64,
    /// The keys that were deleted, each with the deletion's revision.
    pub deleted: Vec<(Arc<str>, u64)>,
}

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote the key in between.
    #[error(
        "{key:?} was changed by somebody else (it is now at revision {found:?}); read it again and retry"
    )]
    Conflict {
        /// The key.
        key: String,
        /// The revision of its value, if it has one.
        found: Option<u64>,
    },
    /// A watch from a revision whose changes are no longer remembered.
    #[error(
        "changes after revision {after} are no longer known (the oldest known is {oldest}); list again"
    )]
    Compacted {
        /// The revision asked for.
        after: u64,
        /// The first revision from which a watch is possible.
        oldest: u64,
    },
    /// The watcher did not read fast enough.
    #[error("the watcher fell more than {HISTORY} changes behind and was cut off; list again")]
    Lagged,
    /// The store is closed.
    #[error("the registry's store is closed")]
    Closed,
    /// A file that a newer version wrote.
    #[error(
        "{path:?} has format {found}, this version knows {known}: run the version that wrote it, or start with another file"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format known here.
        known: u64,
    },
    /// A file that is no store, or a damaged one.
    #[error(
        "{path:?} is not a store or is damaged ({cause}): move it away and start again; endpoints register anew, services need `nsm apply`"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        cause: String,
    },
    /// Another process holds the file.
    #[error(
        "{path:?} is in use by another process: stop it, or give this registry a file of its own"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// No majority of the shared store's members answers, or none can be reached.
    #[error(
        "etcd at {members} does not answer ({cause}): are most of its members up, and do their addresses lead there?"
    )]
    Away {
        /// Where its members are.
        members: String,
        /// What the last one said.
        cause: String,
    },
    /// The shared store answers, and will not do it.
    #[error(
        "etcd at {members} refuses ({cause}): check its space, certificates, and the user's rights below the prefix"
    )]
    Refused {
        /// Where its members are.
        members: String,
        /// What it said.
        cause: String,
    },
    /// A lease of the shared store that is no longer there; the store gets another by itself.
    #[error("a lease in etcd has ended before its time")]
    NoLease,
    /// The disk, its permissions, its space.
    #[error("{path:?} cannot be {doing}: {cause}; check its folder, permissions and free space")]
    Io {
        /// The file.
        path: PathBuf,
        /// "opened", "written", "read".
        doing: &'static str,
        /// What the system said.
        cause: String,
    },
}

/// A new age's name; `None` where the system has no random numbers.
fn age() -> Option<u64> {
    let mut name = [0; 8];
    rustix::rand::getrandom(&mut name, rustix::rand::GetRandomFlags::empty()).ok()?;
    Some(u64::from_le_bytes(name))
}

/// A key-value store with revisions. All implementations pass [`kit::conform`].
#[async_trait]
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// The entry of a key.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Writes a key if what is there is as expected; answers with the write's revision once it
    /// cannot be lost any more.
    async fn put(
        &self,
        key: &str,
        value: Arc<[u8]>,
        expect: Expect,
        lease: Option<SystemTime>,
    ) -> Result<u64, StoreError>;

    /// Deletes a key if what is there is as expected; `None` if there was nothing to delete.
    async fn delete(&self, key: &str, expect: Expect) -> Result<Option<u64>, StoreError>;

    /// Everything whose key begins with a prefix.
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError>;

    /// What is known of the time before the revision of a listing.
    async fn past(&self, _prefix: &str, listed: u64) -> Result<Past, StoreError> {
        Ok(Past {
            since: listed,
            ..Past::default()
        })
    }

    /// Every change below a prefix after a revision, in order.
    async fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError>;
}
