//! Network namespaces that are only names, and their descriptors on the way between processes.
//!
//! A descriptor has to be a real one, since the chains pass those; it is one of a file in memory
//! that stands for a namespace. The numbers that messages and plans have are the run's own, so that
//! every run of a seed has the same ones.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use nsm_chain::{Code, Descriptors, Error};
use nsm_model::url::InodeUrl;
use nsm_sdk::Namespace;
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use tokio::{sync::Notify, time::Instant};

/// The device of every namespace: Linux has one for all of them as well.
const DEVICE: u64 = 4;

thread_local! {
    /// What the files of this thread's run stand for, by their real inode.
    static STAND_FOR: RefCell<BTreeMap<u64, InodeUrl>> = const { RefCell::new(BTreeMap::new()) };
}

/// A new namespace with this number.
///
/// # Panics
/// The machine gives no files in memory.
#[must_use]
pub fn namespace(number: u64) -> Namespace {
    let file = match memfd_create("netns", MemfdFlags::CLOEXEC) {
        Ok(file) => file,
        Err(error) => panic!("memfd_create: {error}"),
    };
    let inode = InodeUrl {
        dev: DEVICE,
        ino: number,
    };
    STAND_FOR.with_borrow_mut(|known| known.insert(real(file.as_fd()), inode));
    Namespace {
        inode,
        descriptor: Arc::new(file),
    }
}

/// Forgets every namespace of this thread.
pub fn forget() {
    STAND_FOR.with_borrow_mut(BTreeMap::clear);
}

fn real(file: BorrowedFd<'_>) -> u64 {
    fstat(file).map_or(0, |stat| stat.st_ino)
}

/// The way for descriptors between two processes; both hold the same one.
#[derive(Debug)]
pub struct Pipe {
    local: bool,
    there: Mutex<BTreeMap<InodeUrl, OwnedFd>>,
    came: Notify,
}

impl Pipe {
    /// A way, where the connection is a local one.
    #[must_use]
    pub fn new(local: bool) -> Self {
        Self {
            local,
            there: Mutex::default(),
            came: Notify::new(),
        }
    }

    fn copy(&self, inode: InodeUrl) -> Option<OwnedFd> {
        let there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        there.get(&inode).and_then(|found| found.try_clone().ok())
    }
}

#[async_trait]
impl Descriptors for Pipe {
    fn send(&self, descriptor: BorrowedFd<'_>) -> Result<(), Error> {
        if !self.local {
            let message = "descriptors do not cross TCP";
            return Err(Error::new(Code::FailedPrecondition, message));
        }
        let known = STAND_FOR.with_borrow(|known| known.get(&real(descriptor)).copied());
        let copy = descriptor.try_clone_to_owned().ok();
        if let (Some(inode), Some(copy)) = (known, copy) {
            let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
            there.insert(inode, copy);
            self.came.notify_waiters();
        }
        Ok(())
    }

    async fn receive(&self, inode: InodeUrl, deadline: Instant) -> Result<OwnedFd, Error> {
        let wait = async {
            loop {
                let came = self.came.notified();
                if let Some(found) = self.copy(inode) {
                    return found;
                }
                came.await;
            }
        };
        tokio::time::timeout_at(deadline, wait).await.map_err(|_| {
            let message = format!("no descriptor of {inode} came");
            Error::new(Code::DeadlineExceeded, message)
        })
    }
}
