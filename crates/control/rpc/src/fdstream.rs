//! A unix stream that carries descriptors beside its bytes, for use *under* TLS.
//!
//! As edwarnicke/grpcfd does it: at the next write each queued descriptor goes with one byte of
//! its own, and every read has room for descriptors.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::AsFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::UnixStream,
    time::{Instant, Sleep, sleep},
};

use crate::fdtable::{Descriptors, Table};

/// The most descriptors sent in one write, and taken in by one read (grpcfd's number).
pub const MAX_PER_WRITE: usize = 64;

/// How often held descriptors are looked through for those that are too old.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct FdStream {
    socket: UnixStream,
    table: Arc<Table>,
    sweep: Option<Pin<Box<Sleep>>>,
}

impl FdStream {
    /// Wraps a connected socket.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            table: Arc::default(),
            sweep: None,
        }
    }

    /// The handle by which descriptors are sent and received.
    #[must_use]
    pub fn descriptors(&self) -> Descriptors {
        Descriptors::unix(Arc::clone(&self.table))
    }

    /// Runs while something is held; the connection's own reads drive it, so it needs no task.
    fn poll_sweep(&mut self, context: &mut Context<'_>) {
        if self.sweep.is_none() && !self.table.holds_any() {
            return;
        }
        loop {
            let timer = self
                .sweep
                .get_or_insert_with(|| Box::pin(sleep(SWEEP_EVERY)));
            if timer.as_mut().poll(context).is_pending() {
                return;
            }
            self.sweep = None;
            if !self.table.sweep(Instant::now()) {
                return;
            }
        }
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PER_WRITE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(into)];
        let got = recvmsg(
            &self.socket,
            &mut parts,
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                for descriptor in descriptors {
                    self.table.arrived(descriptor);
                }
            }
        }
        Ok(got.bytes)
    }

    /// One byte for each queued descriptor; how many bytes went.
    fn try_descriptors(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        for byte in bytes.chunks(1).take(MAX_PER_WRITE) {
            let Some(descriptor) = self.table.next_outgoing() else {
                break;
            };
            let descriptors = [descriptor.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            match sendmsg(
                &self.socket,
                &[IoSlice::new(byte)],
                &mut control,
                SendFlags::NOSIGNAL,
            ) {
                Ok(_) => sent += 1,
                Err(error) => {
                    self.table.not_sent(descriptor);
                    return if sent > 0 {
                        Ok(sent)
                    } else {
                        Err(error.into())
                    };
                }
            }
        }
        Ok(sent)
    }

    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let first = parts.iter().find(|part| !part.is_empty());
        let sent = self.try_descriptors(first.map_or(&[], |part| part))?;
        let mut none = SendAncillaryBuffer::default();
        let flags = SendFlags::NOSIGNAL;
        if sent == 0 {
            return Ok(sendmsg(&self.socket, parts, &mut none, flags)?);
        }
        let rest = first.map_or(&[][..], |part| &part[sent..]);
        if rest.is_empty() {
            return Ok(sent);
        }
        // What already went is reported; an error shows at the next write.
        Ok(sent + sendmsg(&self.socket, &[IoSlice::new(rest)], &mut none, flags).unwrap_or(0))
    }
}

impl Drop for FdStream {
    fn drop(&mut self) {
        self.table.close();
    }
}

impl AsyncRead for FdStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_sweep(context);
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(this.socket.poll_read_ready(context))?;
            let space = into.initialize_unfilled();
            match this
                .socket
                .try_io(Interest::READABLE, || this.try_read(space))
            {
                Ok(count) => {
                    into.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if retry(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for FdStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(context))?;
            match self
                .socket
                .try_io(Interest::WRITABLE, || self.try_write(parts))
            {
                Err(error) if retry(&error) => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

/// `try_io` clears the readiness on `WouldBlock`; an interrupted call is made again.
fn retry(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
