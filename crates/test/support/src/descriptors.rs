//! Descriptors between two processes of one test: real files, found by their inode.

use std::{
    collections::BTreeMap,
    fs::File,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use nsm_chain::{Code, Descriptors, Error};
use nsm_model::url::InodeUrl;
use tokio::time::Instant;

/// The way for descriptors between two processes; both hold the same one.
#[derive(Debug, Default)]
pub struct Pipe {
    there: Mutex<BTreeMap<InodeUrl, OwnedFd>>,
    broken: AtomicBool,
}

impl Pipe {
    /// The peer has sent this file.
    pub fn send_file(&self, path: &str) {
        let (inode, file) = namespace(path);
        let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        there.insert(inode, file.try_clone().unwrap());
    }

    /// From now on nothing can be sent.
    pub fn break_sending(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }
}

/// A file that stands for a namespace or a socket: its inode as mechanisms say it.
#[must_use]
pub fn namespace(path: &str) -> (InodeUrl, Arc<OwnedFd>) {
    let file = File::open(path).unwrap();
    let inode = inode(&file);
    (inode, Arc::new(file.into()))
}

/// The inode of a path.
#[must_use]
pub fn file_of(path: &str) -> InodeUrl {
    namespace(path).0
}

fn inode(file: &File) -> InodeUrl {
    let metadata = file.metadata().unwrap();
    InodeUrl {
        dev: metadata.dev(),
        ino: metadata.ino(),
    }
}

#[async_trait]
impl Descriptors for Pipe {
    fn send(&self, descriptor: BorrowedFd<'_>) -> Result<(), Error> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Error::new(
                Code::ResourceExhausted,
                "the descriptor queue is full",
            ));
        }
        let file = File::from(descriptor.try_clone_to_owned().unwrap());
        let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        there.insert(inode(&file), file.into());
        Ok(())
    }

    async fn receive(&self, inode: InodeUrl, _: Instant) -> Result<OwnedFd, Error> {
        let there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        let found = there.get(&inode).map(|found| found.try_clone().unwrap());
        found.ok_or_else(|| {
            Error::new(
                Code::DeadlineExceeded,
                format!("no descriptor of {inode} came"),
            )
        })
    }
}
