//! Interfaces that come to the caller's own namespace, as the kernel tells it.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::error::KernelError;
use crate::netlink;
use crate::stats::LinkState;

/// `linux/rtnetlink.h`.
const RTNLGRP_LINK: u32 = 1;
/// One datagram: the kernel packs link events singly.
const DATAGRAM_BYTES: usize = 32 * 1024;

/// The listening thread. Drop stops and joins it.
#[derive(Debug)]
pub struct Arrivals {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Arrivals {
    /// From now on tells `arrived` the name of each interface of the calling thread's namespace
    /// that is there and no port of anything, as often as something of it changes; `None` when the
    /// kernel lost events: it may have been any.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start(arrived: impl FnMut(Option<&str>) + Send + 'static) -> Result<Self, KernelError> {
        let socket = open().map_err(|e| KernelError::io("listen on", "netlink socket", &e))?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC);
        let stop = Arc::new(
            stop.map_err(|e| KernelError::new("create", "event descriptor", e.raw_os_error()))?,
        );
        let ended = Arc::clone(&stop);
        let builder = thread::Builder::new().name("arrivals".into());
        let thread = builder.spawn(move || {
            if let Err(error) = listen(&socket, &ended, arrived) {
                tracing::error!(%error, "interfaces that come are not heard of any more");
            }
        });
        let thread = thread.map_err(|e| KernelError::io("start", "event thread", &e))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&self.stop, &1u64.to_ne_bytes()) {
            tracing::error!(%error, "event thread cannot be told to stop");
            return;
        }
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the runtime.
            let _ = thread.join();
        }
    }
}

fn open() -> std::io::Result<netlink_sys::Socket> {
    let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.add_membership(RTNLGRP_LINK)?;
    Ok(socket)
}

fn listen(
    socket: &netlink_sys::Socket,
    stop: &OwnedFd,
    mut arrived: impl FnMut(Option<&str>),
) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(DATAGRAM_BYTES);
    while wait(socket, stop)? {
        buffer.clear();
        match socket.recv(&mut buffer, libc::MSG_DONTWAIT) {
            Ok(_) => names(&buffer).for_each(|name| arrived(Some(&name))),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => arrived(None),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits for the kernel; false when it is time to stop.
fn wait(socket: &netlink_sys::Socket, stop: &OwnedFd) -> std::io::Result<bool> {
    loop {
        // SAFETY: the socket is open as long as it is borrowed here.
        let socket = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        let mut fds = [
            PollFd::from_borrowed_fd(socket, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if !fds[1].revents().is_empty() {
            return Ok(false);
        }
        if !fds[0].revents().is_empty() {
            return Ok(true);
        }
    }
}

/// The interfaces in a datagram that are no ports.
fn names(datagram: &[u8]) -> impl Iterator<Item = String> {
    let messages = netlink::parse_some(datagram, |kind| kind == libc::RTM_NEWLINK);
    messages.into_iter().filter_map(|message| {
        let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = message.payload
        else {
            return None;
        };
        let state = LinkState::read(&link);
        state.master.is_none().then_some(state.name)
    })
}
