//! What the lab and the first process of a cell say to each other: one JSON document a message on a
//! SOCK_SEQPACKET pair, descriptors beside it.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest message: arguments and environment of one role with room to spare, below the default
/// socket buffer.
pub(crate) const MESSAGE_MAX: usize = 64 * 1024;
/// Most descriptors beside one message: standard input, output and error.
const FDS_MAX: usize = 3;

/// A host path shown inside a cell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bind {
    /// Existing file or folder as the lab sees it.
    pub source: PathBuf,
    /// Absolute path in the cell; created where it lies below /run, /tmp or another writable place.
    pub target: PathBuf,
    /// Mounted read-only. Unix sockets in it can still be connected to.
    pub read_only: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub name: String,
    pub own_network: bool,
    pub own_processes: bool,
    pub binds: Vec<Bind>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Setup(Setup),
    /// Without a program: our own binary. Descriptors: output, error and, if said, input.
    Spawn {
        program: Option<PathBuf>,
        args: Vec<String>,
        env: BTreeMap<String, String>,
        input: bool,
    },
    Signal {
        process: u32,
        signal: i32,
    },
    SignalAll {
        signal: i32,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub id: u64,
    pub request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    Done { id: u64, process: u32 },
    Failed { id: u64, message: String },
    Exited { process: u32, exit: Exit },
}

/// Sends one message.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut text = serde_json::to_vec(message)?;
    text.push(b'\n');
    if text.len() > MESSAGE_MAX || fds.len() > FDS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "message to the cell is too long",
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::io::retry_on_intr(|| {
        sendmsg(
            socket,
            &[IoSlice::new(&text)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
    })?;
    Ok(())
}

/// Receives one message; `None` when the other side is gone.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut text = vec![0u8; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut text)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(received) => break received,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(Some((
        serde_json::from_slice(&text[..received.bytes])?,
        fds,
    )))
}
