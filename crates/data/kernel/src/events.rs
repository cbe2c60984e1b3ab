//! What happens to links and namespaces, as the kernel tells it: one socket hears every namespace
//! that has a number.

use std::collections::BTreeMap;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use nsm_plan::{ALIAS_PREFIX, End, GROUP, REAP_GROUP, is_ours};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::error::{KernelError, NetnsError};
use crate::netns::Workers;
use crate::stats::LinkState;
use crate::{have, netlink, nsid};

/// `linux/rtnetlink.h`.
const RTNLGRP_LINK: u32 = 1;
/// `linux/rtnetlink.h`.
const RTNLGRP_NSID: u32 = 28;
/// Addresses and routes of both families (`RTNLGRP_IPV4_IFADDR` and so on, `linux/rtnetlink.h`).
const RTNLGRPS_CONTENTS: [u32; 4] = [5, 7, 9, 11];
/// Messages that are read at all: links that change, and what is taken from them. A node with a
/// whole routing table tells of thousands of routes.
const READ: [u16; 5] = [
    libc::RTM_NEWLINK,
    libc::RTM_DELLINK,
    libc::RTM_DELADDR,
    libc::RTM_DELROUTE,
    libc::RTM_DELNSID,
];
/// `linux/netlink.h`, for the control message as for the option.
const NETLINK_LISTEN_ALL_NSID: libc::c_int = 8;
/// Events that a reader may leave lying before it is told that it missed some.
const QUEUE: usize = 1024;
/// What a rootless socket may ask for (net.core.rmem_max); some hundred events between two turns of
/// the thread.
const RECEIVE_BUFFER_BYTES: u32 = 212_992;
/// One datagram: the kernel packs link events singly.
const DATAGRAM_BYTES: usize = 32 * 1024;
/// How soon a slow reader is told again that it missed something.
const MISSED_RETRY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Something happened that the forwarder did not do itself, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A numbered namespace is gone with everything in it.
    NamespaceGone {
        /// Its number until now.
        nsid: i32,
    },
    /// A link of ours is gone.
    LinkGone {
        /// Its namespace's number; `None` for the node's own.
        nsid: Option<i32>,
        /// Its index.
        index: u32,
        /// Its alias.
        alias: String,
    },
    /// A link of ours that carried packets does not any more: taken down, or its peer was.
    LinkDown {
        /// Its namespace's number; `None` for the node's own.
        nsid: Option<i32>,
        /// Its index.
        index: u32,
        /// Its alias.
        alias: String,
    },
    /// A link of ours is not what it was when it was last heard of, or is heard of for the first
    /// time.
    LinkChanged {
        /// Its namespace's number; `None` for the node's own.
        nsid: Option<i32>,
        /// Its index.
        index: u32,
        /// What can be seen of it.
        look: Look,
    },
    /// An address or a route was taken from an interface whose index is one of ours.
    Emptied {
        /// Its namespace's number; `None` for the node's own.
        nsid: Option<i32>,
        /// The interface's index.
        index: u32,
    },
    /// Events were lost, by the kernel or because the reader was slow: look again at everything.
    Missed,
}

/// What can be seen of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its name.
    pub name: String,
    /// Its alias.
    pub alias: String,
    /// Its group.
    pub group: u32,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Up and with a carrier.
    pub running: bool,
}

impl Look {
    /// Whether a plan's end should look like this.
    #[must_use]
    pub fn is(&self, end: &End) -> bool {
        self.name == end.name.as_str()
            && self.alias == end.alias
            && self.group == GROUP
            && self.mtu == end.mtu.get()
            && self.up
    }
}

/// The listening thread. Drop stops and joins it.
#[derive(Debug)]
pub struct Listener {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Starts to listen in the node's namespace.
    ///
    /// # Errors
    /// Mostly EPERM: hearing other namespaces needs `CAP_NET_BROADCAST` in the node's.
    pub fn start(workers: &Workers) -> Result<(Self, Receiver<Event>), NetnsError> {
        let socket = workers.run(|_| open())??;
        let stop = eventfd(0, EventfdFlags::CLOEXEC);
        let stop = Arc::new(
            stop.map_err(|e| KernelError::new("create", "event descriptor", e.raw_os_error()))?,
        );
        let (sender, receiver) = sync_channel(QUEUE);
        let ears = Ears {
            socket,
            stop: Arc::clone(&stop),
            out: sender,
            seen: Seen::default(),
            missed: false,
        };
        let builder = thread::Builder::new().name("link-events".into());
        let thread = builder.spawn(move || ears.listen());
        let thread = thread.map_err(|e| KernelError::io("start", "event thread", &e))?;
        Ok((
            Self {
                stop,
                thread: Some(thread),
            },
            receiver,
        ))
    }
}

impl Drop for Listener {
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

fn open() -> Result<netlink_sys::Socket, KernelError> {
    let open = || {
        let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
        socket.set_rx_buf_sz(RECEIVE_BUFFER_BYTES)?;
        socket.bind_auto()?;
        socket.set_listen_all_namespaces(true)?;
        socket.add_membership(RTNLGRP_LINK)?;
        socket.add_membership(RTNLGRP_NSID)?;
        for group in RTNLGRPS_CONTENTS {
            socket.add_membership(group)?;
        }
        std::io::Result::Ok(socket)
    };
    open().map_err(|e| KernelError::io("listen on", "netlink socket", &e))
}

struct Ears {
    socket: netlink_sys::Socket,
    stop: Arc<OwnedFd>,
    out: SyncSender<Event>,
    seen: Seen,
    missed: bool,
}

/// What has been heard of so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How links of ours looked last; as many as there are links of ours.
    looks: BTreeMap<(Option<i32>, u32), Look>,
}

impl Ears {
    fn listen(mut self) {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            match self.wait() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(%error, "event thread ends");
                    return;
                }
            }
            match receive(&self.socket, &mut buffer) {
                Ok(None) => {}
                Ok(Some((bytes, nsid))) => {
                    let datagram = buffer.get(..bytes).unwrap_or_default();
                    for event in self.seen.events(datagram, nsid) {
                        self.tell(event);
                    }
                }
                Err(libc::ENOBUFS) => self.missed = true,
                Err(errno) => {
                    tracing::error!(errno, "event thread ends");
                    return;
                }
            }
        }
    }

    /// Waits for the kernel; false when it is time to stop.
    fn wait(&mut self) -> rustix::io::Result<bool> {
        loop {
            if self.missed && self.out.try_send(Event::Missed).is_ok() {
                self.missed = false;
            }
            // SAFETY: the socket is open as long as `self`.
            let socket = unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
            let mut fds = [
                PollFd::from_borrowed_fd(socket, PollFlags::IN),
                PollFd::new(&self.stop, PollFlags::IN),
            ];
            match poll(&mut fds, self.missed.then_some(&MISSED_RETRY)) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error),
            }
            if !fds[1].revents().is_empty() {
                return Ok(false);
            }
            if !fds[0].revents().is_empty() {
                return Ok(true);
            }
        }
    }

    fn tell(&mut self, event: Event) {
        if let Err(TrySendError::Full(_)) = self.out.try_send(event) {
            self.missed = true;
        }
    }
}

impl Seen {
    /// What a datagram from the namespace with this number (`None`: the node's own) tells.
    pub(crate) fn events(&mut self, datagram: &[u8], from: Option<i32>) -> Vec<Event> {
        let mut events = Vec::new();
        for message in netlink::parse_some(datagram, |kind| READ.contains(&kind)) {
            if let NetlinkPayload::InnerMessage(message) = message.payload {
                events.extend(self.event(&message, from));
            }
        }
        events
    }

    fn event(&mut self, message: &RouteNetlinkMessage, from: Option<i32>) -> Option<Event> {
        match message {
            // Other namespaces have numbers of their own for each other; those say nothing to us.
            RouteNetlinkMessage::DelNsId(_) if from.is_none() => {
                let nsid = nsid::number(message)?;
                self.looks.retain(|(at, _), _| *at != Some(nsid));
                Some(Event::NamespaceGone { nsid })
            }
            RouteNetlinkMessage::NewLink(link) => self.changed(from, LinkState::read(link)),
            RouteNetlinkMessage::DelLink(link) => {
                let state = LinkState::read(link);
                let (nsid, index, alias) = (from, state.index, state.alias);
                self.looks.remove(&(nsid, index));
                let ours = state.group != REAP_GROUP && alias.starts_with(ALIAS_PREFIX);
                ours.then_some(Event::LinkGone { nsid, index, alias })
            }
            RouteNetlinkMessage::DelAddress(address) => emptied(from, address.header.index),
            RouteNetlinkMessage::DelRoute(route) => {
                have::route(route).and_then(|(index, ..)| emptied(from, index))
            }
            _ => None,
        }
    }

    fn changed(&mut self, nsid: Option<i32>, state: LinkState) -> Option<Event> {
        let LinkState {
            index,
            name,
            alias,
            group,
            mtu,
            up,
            running,
            ..
        } = state;
        let look = Look {
            name,
            alias,
            group,
            mtu,
            up,
            running,
        };
        let ours = look.alias.starts_with(ALIAS_PREFIX);
        let before = if group == REAP_GROUP || !(ours || group == GROUP) {
            self.looks.remove(&(nsid, index))
        } else {
            self.looks.insert((nsid, index), look.clone())
        };
        if group == REAP_GROUP || before.as_ref() == Some(&look) {
            return None;
        }
        let alias = look.alias.clone();
        match before {
            Some(before) if before.running && !running && ours => {
                Some(Event::LinkDown { nsid, index, alias })
            }
            _ => Some(Event::LinkChanged { nsid, index, look }),
        }
    }
}

fn emptied(nsid: Option<i32>, index: u32) -> Option<Event> {
    is_ours(index).then_some(Event::Emptied { nsid, index })
}

/// One datagram and the number of the namespace it comes from.
fn receive(
    socket: &netlink_sys::Socket,
    buffer: &mut [u8],
) -> Result<Option<(usize, Option<i32>)>, i32> {
    let mut parts = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // Room for one control message, aligned as `cmsghdr` wants it.
    let mut control = [0u64; 8];
    // SAFETY: `msghdr` is plain old data for which all zeros is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut parts;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    // SAFETY: `header` points to one buffer and one control area, both of the stated lengths and
    // alive during the call.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let Ok(got) = usize::try_from(got) else {
        return match std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO)
        {
            libc::EAGAIN | libc::EINTR => Ok(None),
            errno => Err(errno),
        };
    };
    // SAFETY: the kernel filled the control area and set its length; the macros stay within it.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: as above; a null pointer ends the walk, and NETLINK_LISTEN_ALL_NSID carries an `int`.
    while let Some(found) = unsafe { message.as_ref() } {
        let long_enough = found.cmsg_len >= size_of::<libc::cmsghdr>() + size_of::<i32>();
        if found.cmsg_level == libc::SOL_NETLINK
            && found.cmsg_type == NETLINK_LISTEN_ALL_NSID
            && long_enough
        {
            // SAFETY: the length was checked; an unaligned read needs no alignment.
            let nsid: i32 = unsafe { libc::CMSG_DATA(message).cast::<i32>().read_unaligned() };
            return Ok(Some((got, Some(nsid))));
        }
        // SAFETY: `message` came from this header.
        message = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
    }
    Ok(Some((got, None)))
}
