//! Waiting until what was made carries packets: a part of it the kernel does a moment later.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::RouteType;
use nsm_plan::{Address, End, Entry, Link, Netns, Plan, Resource};

use crate::contents;
use crate::error::ApplyError;
use crate::have;
use crate::netlink::{Outcome, Request};
use crate::session::Session;
use crate::stats::{self, LinkState};

/// The kernel's work item waits for other link changes; beyond this something is wrong, but not
/// with the connection.
const USABLE_LIMIT: Duration = Duration::from_millis(500);
/// Between two looks at an IPv6 address: about what the kernel takes when it is idle.
const USABLE_PAUSE: Duration = Duration::from_micros(50);

/// A function makes its end a port as soon as it is there; one that does something else with it
/// keeps nobody waiting for long.
const JOIN_LIMIT: Duration = Duration::from_millis(50);

/// The end of a pair that a function joins to another one, when a workload is at the other.
pub(crate) fn port(entry: &Entry) -> Option<&End> {
    match &entry.resource {
        Resource::Link(Link::Veth { far, near }) if far.bare && !near.bare => Some(far),
        _ => None,
    }
}

/// The same towards a workload further on. A function makes that one a port when it has the
/// answer, which comes later: only one that was made again is waited for.
pub(crate) fn port_onwards(entry: &Entry) -> Option<&End> {
    match &entry.resource {
        Resource::Link(Link::Veth { far, near }) if near.bare && !far.bare => Some(near),
        _ => None,
    }
}

impl Session<'_, '_> {
    /// What is sent before the other end is a port of something is lost, the question for a
    /// hardware address above all: it is asked again after a second.
    pub(crate) fn wait_joined(&mut self, port: &End) -> Result<(), ApplyError> {
        let deadline = Instant::now() + JOIN_LIMIT;
        let index = self.index(port.netns, &port.name, port.index);
        let joined = |state: LinkState| state.master.is_some();
        while !stats::find_index(self.socket(port.netns)?, index)?.is_some_and(joined) {
            if Instant::now() > deadline {
                tracing::debug!(netns = %port.netns, name = %port.name, "no port of anything yet");
                break;
            }
            std::thread::sleep(USABLE_PAUSE);
        }
        Ok(())
    }

    /// A pair's end that came up before its peer sends nothing until a work item of the kernel has
    /// run: a question for a hardware address that went unanswered then is asked again after a
    /// second.
    pub(crate) fn wait_running(&mut self, link: &Link) -> Result<(), ApplyError> {
        let deadline = Instant::now() + USABLE_LIMIT;
        for end in link.ends() {
            let index = self.index(end.netns, &end.name, end.index);
            let running = |state: LinkState| state.running;
            while !stats::find_index(self.socket(end.netns)?, index)?.is_some_and(running) {
                if Instant::now() > deadline {
                    tracing::warn!(netns = %end.netns, name = %end.name, "link is not running yet");
                    return Ok(());
                }
                std::thread::sleep(USABLE_PAUSE);
            }
        }
        Ok(())
    }

    /// What the kernel asked for while a link carried nothing went unanswered: it asks again after
    /// a second by itself.
    pub(crate) fn ask_again(&mut self, plan: &Plan) -> Result<(), ApplyError> {
        let ends = plan.links().flat_map(|(_, link)| link.ends());
        for end in ends.filter(|end| !end.bare) {
            let index = self.index(end.netns, &end.name, end.index);
            let object = format!("{} in {}", end.name, end.netns);
            let list = contents::list_neighbours(object.clone());
            let known = self.socket(end.netns)?.dump(&list)?;
            let unanswered = known.iter().filter_map(|message| match message {
                RouteNetlinkMessage::NewNeighbour(known)
                    if known.header.ifindex == index
                        && known.header.state == NeighbourState::Incomplete =>
                {
                    Some(known)
                }
                _ => None,
            });
            let requests: Vec<Request> = unanswered
                .flat_map(|known| contents::ask_again(known, &object))
                .collect();
            for error in self
                .socket(end.netns)?
                .batch(&requests)?
                .iter()
                .filter_map(|done| done.as_ref().err())
            {
                tracing::debug!(%error, "not asked for again");
            }
        }
        Ok(())
    }

    /// An IPv6 address is added at once, but packets to it are taken only after a work item of the
    /// kernel has run.
    pub(crate) fn wait_usable(&mut self, entries: &[Entry]) -> Result<(), ApplyError> {
        let mut waiting = BTreeMap::<Netns, Vec<&Address>>::new();
        for entry in entries {
            if let Resource::Address(address) = &entry.resource
                && address.net.addr().is_ipv6()
            {
                waiting.entry(address.netns).or_default().push(address);
            }
        }
        let deadline = Instant::now() + USABLE_LIMIT;
        for (netns, addresses) in waiting {
            while !self.usable(netns, &addresses)? {
                if Instant::now() > deadline {
                    tracing::warn!(%netns, "IPv6 addresses are not usable yet");
                    return Ok(());
                }
                std::thread::sleep(USABLE_PAUSE);
            }
        }
        Ok(())
    }

    fn usable(&mut self, netns: Netns, addresses: &[&Address]) -> Result<bool, ApplyError> {
        let asks = addresses.iter().map(|a| contents::get_route(a.net.addr()));
        let asks: Vec<Request> = asks.collect();
        if !self.socket(netns)?.batch(&asks)?.iter().all(is_local) {
            return Ok(false);
        }
        if !self.replacing {
            return Ok(true);
        }
        // Another interface has it as well, for a while.
        let in_use = have::in_use(self.socket(netns)?)?;
        Ok(addresses.iter().all(|a| {
            let index = self.index(a.netns, &a.name, a.index);
            in_use.contains(&(index, a.net.addr()))
        }))
    }
}

/// Whether the route asked for ends here.
fn is_local(outcome: &Outcome) -> bool {
    let local = |message: &RouteNetlinkMessage| matches!(message, RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Local);
    outcome
        .as_ref()
        .is_ok_and(|replies| replies.iter().any(local))
}
