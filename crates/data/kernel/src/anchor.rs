//! Keeps the UDP sockets of tunnels open between one tunnel and the next.
//!
//! The kernel shares one socket among a node's VXLAN devices of a port and family, and closes it
//! with the last one that goes down: that waits for a whole RCU grace period, 7 ms on an idle
//! machine and 25 on a busy one, while a Close waits for its answer. A device of ours that is never
//! taken down keeps the socket. It lives in a namespace of its own, where nothing listens and
//! nothing routes, and dies with this process: its namespace is held by a descriptor alone.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::error::NetnsError;
use crate::messages;
use crate::netlink::Socket;
use crate::netns::{Inside, NetnsFd};

/// Beyond the loopback's.
const FIRST_INDEX: u32 = 8;

/// What is held.
#[derive(Debug, Default)]
pub(crate) struct Anchors(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    netns: Option<NetnsFd>,
    /// Port, and whether it is IPv6.
    sockets: BTreeSet<(u16, bool)>,
}

impl Anchors {
    /// Keeps the socket of tunnels to `remote` and this port from now on. What goes wrong only
    /// makes closes slower, so it is logged, and tried again with the next tunnel: an earlier
    /// process's goes a moment after it. Leaves the worker in the node's namespace.
    pub(crate) fn keep(
        &self,
        inside: &mut Inside<'_>,
        node: &mut Socket,
        port: u16,
        remote: IpAddr,
    ) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.sockets.insert((port, remote.is_ipv6())) {
            return;
        }
        if let Err(error) = held.add(inside, node, port, remote.is_ipv6()) {
            held.sockets.remove(&(port, remote.is_ipv6()));
            tracing::warn!(%error, port, "the socket of tunnels is not kept: closing them takes longer");
        }
    }
}

impl Held {
    fn add(
        &mut self,
        inside: &mut Inside<'_>,
        node: &mut Socket,
        port: u16,
        ipv6: bool,
    ) -> Result<(), NetnsError> {
        let netns = match &self.netns {
            Some(netns) => netns.clone(),
            None => {
                let made = inside.create();
                inside.leave()?;
                self.netns.insert(made?).clone()
            }
        };
        let index = FIRST_INDEX + u32::try_from(self.sockets.len()).unwrap_or(0);
        let name = format!("nsm-{index}");
        node.execute(&[messages::new_anchor((&name, index), &netns, port, ipv6)])?;
        inside.enter(&netns)?;
        let up = Socket::open().and_then(|mut socket| {
            let quiet = messages::no_addresses(index, name.clone());
            socket.execute(&[quiet, messages::set_up(index, true, &name)])
        });
        inside.leave()?;
        up.map_err(NetnsError::from)
    }
}
