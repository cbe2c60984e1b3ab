//! Which process gets which SPIFFE ID: a list of entries with selectors, from a YAML file or from
//! the program.

mod source;

use std::path::PathBuf;

use nsm_model::spiffe::{SpiffeId, TrustDomain};
use serde::Deserialize;

pub use source::EntrySource;

use super::attest::Facts;

/// A node has some hundreds of workloads; a larger file is a mistake.
const MAX_ENTRIES: usize = 10_000;

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
    /// Somebody else could write it.
    #[error(
        "the entries file {path} can be written by others than uid {own} and root; chown and chmod 0644 it"
    )]
    Writable {
        /// Which.
        path: PathBuf,
        /// Of this process.
        own: u32,
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

    /// Reads the YAML form: `entries: [{id: spiffe://..., selectors: {uid: 0}}]`; unknown keys are
    /// refused.
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
                std::cmp::Ordering::Equal | std::cmp::Ordering::Less => {}
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

#[cfg(test)]
mod tests;
