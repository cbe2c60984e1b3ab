//! A directory of secret files: mode 0600, of our own user, written whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

/// Keys, certificates and token lists are far below this.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Permission bits that a secret must not have: anything for group and others.
const FORBIDDEN_BITS: u32 = 0o077;

/// What is wrong with a secret file or its directory.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Others may read or change it.
    #[error(
        "{path} has mode {mode:04o}; it holds a secret, so nobody but its owner may touch it: chmod {wanted} {path}"
    )]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        wanted: &'static str,
    },
    /// It belongs to another user.
    #[error(
        "{path} belongs to uid {owner}, this process runs as uid {own}; give it to uid {own} or run as its owner"
    )]
    Owner {
        /// Which file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The process's effective user.
        own: u32,
    },
    /// Larger than any secret of ours.
    #[error("{0} is larger than {MAX_FILE_BYTES} bytes; it is none of our files")]
    TooLarge(PathBuf),
}

/// A directory of mode 0700 that this process owns.
#[derive(Clone, Debug)]
pub(crate) struct SecretDir(PathBuf);

impl SecretDir {
    /// Makes the directory if need be; refuses one that others may enter.
    pub(crate) fn open(path: &Path) -> Result<Self, DirError> {
        if !path.exists() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| DirError::Io {
                action: "create",
                path: path.to_owned(),
                source,
            })?;
        }
        let metadata = fs::metadata(path).map_err(|source| DirError::Io {
            action: "inspect",
            path: path.to_owned(),
            source,
        })?;
        check(path, &metadata, "0700")?;
        Ok(Self(path.to_owned()))
    }

    /// The content of a file; `None` when there is none.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, DirError> {
        let path = self.0.join(name);
        let io = |action| {
            let path = path.clone();
            move |source| DirError::Io {
                action,
                path,
                source,
            }
        };
        let no_links = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let file = match OpenOptions::new()
            .read(true)
            .custom_flags(no_links)
            .open(&path)
        {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("open")(error)),
        };
        // Of the open file, so that it cannot be exchanged in between.
        let metadata = file.metadata().map_err(io("inspect"))?;
        check(&path, &metadata, "0600")?;
        if metadata.len() > MAX_FILE_BYTES {
            return Err(DirError::TooLarge(path));
        }
        let mut content = Vec::new();
        file.take(MAX_FILE_BYTES)
            .read_to_end(&mut content)
            .map_err(io("read"))?;
        Ok(Some(content))
    }

    /// Replaces a file at once; after a crash it is the old one or the new one.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), DirError> {
        let path = self.0.join(name);
        let new = self.0.join(format!("{name}.new"));
        let written = (|| {
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.0)?.sync_all()
        })();
        written.map_err(|source| DirError::Io {
            action: "write",
            path,
            source,
        })
    }

    /// Keeps other processes out of a read-change-write until the lock is dropped.
    pub(crate) fn lock(&self) -> Result<File, DirError> {
        let path = self.0.join("lock");
        let locked = (|| {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        })();
        locked.map_err(|source| DirError::Io {
            action: "lock",
            path,
            source,
        })
    }
}

fn check(path: &Path, metadata: &fs::Metadata, wanted: &'static str) -> Result<(), DirError> {
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own {
        return Err(DirError::Owner {
            path: path.to_owned(),
            owner: metadata.uid(),
            own,
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & FORBIDDEN_BITS != 0 {
        return Err(DirError::Mode {
            path: path.to_owned(),
            mode,
            wanted,
        });
    }
    Ok(())
}
