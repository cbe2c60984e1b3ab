//! Where entries come from, and when they have changed.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use nsm_model::spiffe::TrustDomain;

use super::{Entries, EntriesError, Entry};

/// An entry has about 200 bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Who writes entries gives identities away.
const OTHERS_WRITE: u32 = 0o002;

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

    /// The entries now. A file that cannot be read any more leaves the last good list in force,
    /// with an error in the log: a typo must not end a node's identities.
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
    let own = rustix::process::geteuid().as_raw();
    if ![0, own].contains(&metadata.uid()) || metadata.mode() & OTHERS_WRITE != 0 {
        return Err(EntriesError::Writable {
            path: path.to_owned(),
            own,
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
