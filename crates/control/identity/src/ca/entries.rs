//! Which process gets which SPIFFE ID: a list of entries with selectors, from a YAML file or from the program.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use nsm_model::spiffe::{SpiffeId, TrustDomain};
use serde::Deserialize;

use super::attest::Facts;

/// A node has some hundreds of workloads; a larger file is a mistake.
const MAX_ENTRIES: usize = 10_000;

/// An entry has about 200 bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// What is wrong with a list of entries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntriesError {
    /// The file.
    #[error("cannot read the entries file {path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's word.
        reason: String,
    },
    /// Not the form.
    #[error("the entries are malformed: {0}")]
    Malformed(String),
    /// Not a SPIFFE ID of this domain.
    #[error("entry {index}: id {id:?}: {reason}")]
    Id {
        /// Counted from 1.
        index: usize,
        /// As written.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// It would match everybody.
    #[error(
        "entry {index} ({id}) has no selectors, so every process would get its identity; add uid, exe, netns, pidns or pid"
    )]
    NoSelector {
        /// Counted from 1.
        index: usize,
        /// Whose.
        id: SpiffeId,
    },
    /// The limit.
    #[error("{0} entries, at most {MAX_ENTRIES} are read")]
    TooMany(usize),
}

/// Conditions on a process; all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selectors {
    /// The effective user.
    pub uid: Option<u32>,
    /// The executable, as the process sees it.
    pub exe: Option<PathBuf>,
    /// The inode of the network namespace.
    pub netns: Option<u64>,
    /// The inode of the pid namespace.
    pub pidns: Option<u64>,
    /// One process: a child that whoever writes the entry has started and not yet reaped.
    pub pid: Option<u32>,
}

impl Selectors {
    fn count(&self) -> usize {
        let given = [
            self.uid.is_some(),
            self.exe.is_some(),
            self.netns.is_some(),
            self.pidns.is_some(),
            self.pid.is_some(),
        ];
        given.into_iter().filter(|given| *given).count()
    }

    fn matches(&self, facts: &Facts) -> bool {
        self.uid.is_none_or(|uid| uid == facts.uid)
            && self.exe.as_ref().is_none_or(|exe| *exe == facts.exe)
            && self.netns.is_none_or(|netns| netns == facts.netns)
            && self.pidns.is_none_or(|pidns| pidns == facts.pidns)
            && self.pid.is_none_or(|pid| pid == facts.pid)
    }
}

/// A SPIFFE ID and the processes that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The identity.
    pub id: SpiffeId,
    /// Who gets it.
    pub selectors: Selectors,
}

/// Why a process gets nothing; for the log, never for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMatch {
    /// No entry.
    #[error("no entry matches")]
    Unknown,
    /// Two entries of equal weight.
    #[error(
        "{first} and {second} match with {selectors} selectors each; add a selector to one of them"
    )]
    Tie {
        /// One of them.
        first: SpiffeId,
        /// The other.
        second: SpiffeId,
        /// How many each.
        selectors: usize,
    },
}

/// A checked list of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(Vec<Entry>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    entries: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    id: String,
    selectors: Selectors,
}

impl Entries {
    /// Checks entries of `domain`.
    pub fn new(entries: Vec<Entry>, domain: &TrustDomain) -> Result<Self, EntriesError> {
        if entries.len() > MAX_ENTRIES {
            return Err(EntriesError::TooMany(entries.len()));
        }
        for (index, entry) in (1..).zip(&entries) {
            if !entry.id.member_of(domain) {
                let reason =
                    format!("its trust domain is not {domain}, for which this agent signs");
                return Err(EntriesError::Id {
                    index,
                    id: entry.id.to_string(),
                    reason,
                });
            }
            if entry.selectors.count() == 0 {
                return Err(EntriesError::NoSelector {
                    index,
                    id: entry.id.clone(),
                });
            }
        }
        Ok(Self(entries))
    }

    /// Reads the YAML form: `entries: [{id: spiffe://..., selectors: {uid: 0}}]`; unknown keys are refused.
    pub fn parse(yaml: &str, domain: &TrustDomain) -> Result<Self, EntriesError> {
        let file: File = serde_saphyr::from_str(yaml)
            .map_err(|error| EntriesError::Malformed(error.to_string()))?;
        let mut entries = Vec::new();
        for (index, raw) in (1..).zip(file.entries) {
            let id = raw
                .id
                .parse()
                .map_err(|error: nsm_model::spiffe::SpiffeError| EntriesError::Id {
                    index,
                    id: raw.id.clone(),
                    reason: error.to_string(),
                })?;
            entries.push(Entry {
                id,
                selectors: raw.selectors,
            });
        }
        Self::new(entries, domain)
    }

    /// The ID of a process: that of the entry with the most selectors.
    pub fn find(&self, facts: &Facts) -> Result<&SpiffeId, NoMatch> {
        let mut best: Option<&Entry> = None;
        let mut tie = None;
        for entry in self.0.iter().filter(|entry| entry.selectors.matches(facts)) {
            let Some(leader) = best else {
                best = Some(entry);
                continue;
            };
            match entry.selectors.count().cmp(&leader.selectors.count()) {
                std::cmp::Ordering::Greater => (best, tie) = (Some(entry), None),
                std::cmp::Ordering::Equal if entry.id != leader.id => tie = Some(entry),
                _ => {}
            }
        }
        match (best, tie) {
            (None, _) => Err(NoMatch::Unknown),
            (Some(best), None) => Ok(&best.id),
            (Some(best), Some(other)) => Err(NoMatch::Tie {
                first: best.id.clone(),
                second: other.id.clone(),
                selectors: best.selectors.count(),
            }),
        }
    }
}

/// What tells one version of a file from another.
type Stamp = (i64, i64, u64, u64);

/// Where an agent's entries come from; clones share it.
#[derive(Clone, Debug)]
pub struct EntrySource(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    domain: TrustDomain,
    path: Option<PathBuf>,
    now: Mutex<(Stamp, Arc<Entries>)>,
}

impl EntrySource {
    /// A file, read again when it changes.
    pub fn file(path: &Path, domain: &TrustDomain) -> Result<Self, EntriesError> {
        let stamp = stamp(path)?;
        let entries = Arc::new(load(path, domain)?);
        let (domain, path) = (domain.clone(), Some(path.to_owned()));
        Ok(Self(Arc::new(Inner {
            domain,
            path,
            now: Mutex::new((stamp, entries)),
        })))
    }

    /// A list held by the program.
    pub fn list(entries: Vec<Entry>, domain: &TrustDomain) -> Result<Self, EntriesError> {
        let entries = Arc::new(Entries::new(entries, domain)?);
        let now = Mutex::new((Stamp::default(), entries));
        Ok(Self(Arc::new(Inner {
            domain: domain.clone(),
            path: None,
            now,
        })))
    }

    /// Replaces the list; a source with a file overwrites it at the file's next change.
    pub fn set(&self, entries: Vec<Entry>) -> Result<(), EntriesError> {
        let entries = Arc::new(Entries::new(entries, &self.0.domain)?);
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner).1 = entries;
        Ok(())
    }

    /// The entries now. A file that cannot be read any more leaves the last good list in force, with an error
    /// in the log: a typo must not end a node's identities.
    pub fn current(&self) -> Arc<Entries> {
        let mut now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.0.path else {
            return now.1.clone();
        };
        match stamp(path) {
            Ok(stamp) if stamp == now.0 => {}
            Ok(stamp) => {
                now.0 = stamp;
                match load(path, &self.0.domain) {
                    Ok(entries) => now.1 = Arc::new(entries),
                    Err(error) => tracing::error!(%error, "the changed entries are not used"),
                }
            }
            Err(error) => tracing::error!(%error, "the last good entries stay in force"),
        }
        now.1.clone()
    }
}

fn stamp(path: &Path) -> Result<Stamp, EntriesError> {
    let metadata = fs::metadata(path).map_err(|error| file_error(path, &error))?;
    if metadata.len() > MAX_FILE_BYTES {
        let reason = format!(
            "{} bytes, at most {MAX_FILE_BYTES} are read",
            metadata.len()
        );
        return Err(EntriesError::File {
            path: path.to_owned(),
            reason,
        });
    }
    Ok((
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ino(),
        metadata.len(),
    ))
}

fn load(path: &Path, domain: &TrustDomain) -> Result<Entries, EntriesError> {
    let text = fs::read_to_string(path).map_err(|error| file_error(path, &error))?;
    Entries::parse(&text, domain)
}

fn file_error(path: &Path, error: &std::io::Error) -> EntriesError {
    EntriesError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
