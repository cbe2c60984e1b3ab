//! One visit of a worker to the namespaces of a plan: sockets, and the steps of putting resources
//! in place.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use nsm_model::ifname::IfName;
use nsm_plan::{
    Changes, Entry, GROUP, Netns, NetnsId, REAP_GROUP, Resource, Role, Route, Sysctl, Tunnel,
};

use crate::contents;
use crate::error::{ApplyError, KernelError};
use crate::known::Shared;
use crate::messages;
use crate::netlink::{Request, Socket};
use crate::netns::{Inside, NetnsFd};
use crate::ready::port;
use crate::stats;

/// How often a route is tried that others' links stand in the way of and are gone at a second look.
const ROUTE_TRIES: u32 = 8;

/// What an interface does with its routes for a new one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Given,
    Kept,
}

/// One visit. Its sockets close with it, so that no namespace stays pinned.
pub(crate) struct Session<'a, 'b> {
    inside: &'a mut Inside<'b>,
    pub(crate) shared: &'a Shared,
    pub(crate) fds: BTreeMap<NetnsId, NetnsFd>,
    pub(crate) node: Socket,
    sockets: BTreeMap<NetnsId, Socket>,
    pub(crate) indices: BTreeMap<(Netns, IfName), u32>,
    /// Interfaces whose routes may be overwritten: those that are being replaced.
    pub(crate) yielding: BTreeSet<(Netns, u32)>,
    /// Whether addresses are on two interfaces meanwhile.
    pub(crate) replacing: bool,
    here: Netns,
}

/// What an apply has put in place so far, so that it can be taken away again.
#[derive(Debug, Default)]
pub(crate) struct Made(Vec<Entry>);

/// One queued request and the entry it serves.
struct Step<'e> {
    request: Request,
    entry: &'e Entry,
}

/// Steps by namespace, in the order in which namespaces were first named.
type Queue<'e> = Vec<(Netns, Vec<Step<'e>>)>;

fn push<'e>(queue: &mut Queue<'e>, netns: Netns, step: Step<'e>) {
    match queue.iter_mut().find(|(at, _)| *at == netns) {
        Some((_, steps)) => steps.push(step),
        None => queue.push((netns, vec![step])),
    }
}

impl<'a, 'b> Session<'a, 'b> {
    pub(crate) fn new(
        inside: &'a mut Inside<'b>,
        shared: &'a Shared,
        fds: BTreeMap<NetnsId, NetnsFd>,
    ) -> Result<Self, ApplyError> {
        let node = Socket::open()?.stepping(&shared.steps);
        let (sockets, indices) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self {
            inside,
            shared,
            fds,
            node,
            sockets,
            indices,
            yielding: BTreeSet::new(),
            replacing: false,
            here: Netns::Node,
        })
    }

    pub(crate) fn enter(&mut self, netns: Netns) -> Result<(), ApplyError> {
        if self.here == netns {
            return Ok(());
        }
        match netns {
            Netns::Node => self.inside.leave()?,
            Netns::Id(id) => {
                let fd = self.fds.get(&id).ok_or(ApplyError::MissingNetns(id))?;
                self.inside.enter(fd)?;
            }
        }
        self.here = netns;
        Ok(())
    }

    /// The socket inside a namespace, opened on first use.
    pub(crate) fn socket(&mut self, netns: Netns) -> Result<&mut Socket, ApplyError> {
        let Netns::Id(id) = netns else {
            return Ok(&mut self.node);
        };
        if !self.sockets.contains_key(&id) {
            self.enter(netns)?;
            let socket = Socket::open()?.stepping(&self.shared.steps);
            self.sockets.insert(id, socket);
        }
        self.sockets
            .get_mut(&id)
            .ok_or(ApplyError::MissingNetns(id))
    }

    /// Keeps the socket of this tunnel and its like.
    pub(crate) fn anchor(&mut self, tunnel: &Tunnel) -> Result<(), ApplyError> {
        self.enter(Netns::Node)?;
        let anchors = &self.shared.anchors;
        anchors.keep(self.inside, &mut self.node, tunnel.port, tunnel.remote);
        Ok(())
    }

    pub(crate) fn fd(&self, netns: Netns) -> Result<&NetnsFd, ApplyError> {
        match netns {
            Netns::Node => Ok(self.inside.node()),
            Netns::Id(id) => self.fds.get(&id).ok_or(ApplyError::MissingNetns(id)),
        }
    }

    /// Carries changes out; on a failure the state before is put back as far as the kernel allows.
    pub(crate) fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        self.take_away(&changes.undo)?;
        if !changes.swaps.is_empty() {
            return self.replace(changes);
        }
        let mut made = Made::default();
        let done = self.put(&changes.apply, &mut made);
        if done.is_err() {
            if let Err(error) = self.take_back(made) {
                tracing::error!(%error, "a failed plan could not be taken away completely");
            }
            let before: Vec<Entry> = changes.undo.iter().rev().cloned().collect();
            if let Err(error) = self.put(&before, &mut Made::default()) {
                tracing::error!(%error, "the state before a failed plan could not be restored");
            }
        }
        done
    }

    pub(crate) fn take_back(&mut self, mut made: Made) -> Result<(), ApplyError> {
        made.0.reverse();
        self.take_away(&made.0)
    }

    /// Puts them in place, routes last, and the ones of whoever is asked before those of whoever
    /// asks: a packet that finds nobody to answer the question for a hardware address waits for a
    /// second, until the kernel asks again.
    pub(crate) fn put(&mut self, entries: &[Entry], made: &mut Made) -> Result<(), ApplyError> {
        let is_route = |entry: &Entry| matches!(entry.resource, Resource::Route(_));
        let (mut routes, first): (Vec<_>, Vec<_>) = entries.iter().cloned().partition(is_route);
        self.put_at_once(&first, made)?;
        if let Some(port) = entries.iter().find_map(port) {
            self.wait_joined(port)?;
        }
        routes.sort_by_key(|entry| entry.id.role == Role::Client);
        self.put_at_once(&routes, made)
    }

    fn put_at_once(&mut self, entries: &[Entry], made: &mut Made) -> Result<(), ApplyError> {
        let mut queue = Queue::new();
        let mut born = Vec::new();
        for entry in entries {
            match &entry.resource {
                Resource::Link(link) => {
                    if self.create(link)? {
                        made.0.push(entry.clone());
                        born.push(link);
                    }
                    for end in link.ends() {
                        let index = self.index(end.netns, &end.name, end.index);
                        for request in messages::settle(end, index, self.shared.wanted_mark()) {
                            push(&mut queue, end.netns, Step { request, entry });
                        }
                    }
                }
                Resource::Sysctl(sysctl) => self.write(sysctl)?,
                Resource::Address(a) => {
                    let request = contents::new_address(self.index(a.netns, &a.name, a.index), a);
                    push(&mut queue, a.netns, Step { request, entry });
                }
                Resource::Route(r) => {
                    let request =
                        contents::new_route(self.index(r.netns, &r.name, r.index), r, false);
                    push(&mut queue, r.netns, Step { request, entry });
                }
                Resource::Neighbour(n) => {
                    let request = contents::new_neighbour(self.index(n.netns, &n.name, n.index), n);
                    push(&mut queue, n.netns, Step { request, entry });
                }
            }
        }
        for (netns, steps) in queue {
            self.flush(netns, steps, made)?;
        }
        for link in born {
            self.wait_running(link)?;
        }
        self.wait_usable(entries)
    }

    fn flush(
        &mut self,
        netns: Netns,
        steps: Vec<Step<'_>>,
        made: &mut Made,
    ) -> Result<(), ApplyError> {
        let (requests, entries): (Vec<_>, Vec<_>) = steps
            .into_iter()
            .map(|step| (step.request, step.entry))
            .unzip();
        let outcomes = self.socket(netns)?.batch(&requests)?;
        let mut first = Ok(());
        for (outcome, entry) in outcomes.into_iter().zip(entries) {
            let done = match (outcome, &entry.resource) {
                (Ok(_), Resource::Link(_)) => Ok(()),
                (Ok(_), _) => {
                    made.0.push(entry.clone());
                    Ok(())
                }
                (Err(error), Resource::Address(_)) if error.errno == libc::EEXIST => Ok(()),
                (Err(error), Resource::Route(route)) if error.errno == libc::EEXIST => {
                    self.route_exists(entry, route)
                }
                (Err(error), _) => Err(error.into()),
            };
            first = first.and(done);
        }
        first
    }

    /// The destination has a route already: ours to (over)write, or somebody else's, or one that
    /// has left since with its link, which is deleted on another thread.
    fn route_exists(&mut self, entry: &Entry, route: &Route) -> Result<(), ApplyError> {
        let index = self.index(route.netns, &route.name, route.index);
        for _ in 0..ROUTE_TRIES {
            let mut stays = false;
            let through = self.through(route)?;
            let mut yields = through.contains(&index);
            for other in through {
                let way = self.way(entry, route.netns, other)?;
                yields |= way == Some(Way::Given);
                stays |= way == Some(Way::Kept);
            }
            if !yields && stays {
                break;
            }
            let again = contents::new_route(index, route, yields);
            match self.socket(route.netns)?.query(again) {
                Err(error) if error.errno == libc::EEXIST => {}
                done => return Ok(done.map(drop)?),
            }
        }
        Err(ApplyError::RouteInUse {
            destination: route.destination,
            netns: route.netns,
        })
    }

    /// The interfaces of routes to the same destination.
    fn through(&mut self, route: &Route) -> Result<Vec<u32>, ApplyError> {
        let mut ask = RouteMessage::default();
        ask.header.address_family = contents::family(route.destination.addr());
        let ask = Request::new(
            "list routes",
            route.netns.to_string(),
            0,
            RouteNetlinkMessage::GetRoute(ask),
        );
        let routes = self.socket(route.netns)?.dump(&ask)?;
        let through = routes.iter().filter_map(|message| through(message, route));
        Ok(through.collect())
    }

    /// Whether an interface gives way: it is being replaced, or was and waits for its deletion, or
    /// it is the same side of the same connection, half made by a process that died. None when it
    /// is gone.
    fn way(&mut self, entry: &Entry, netns: Netns, index: u32) -> Result<Option<Way>, ApplyError> {
        if self.yielding.contains(&(netns, index)) {
            return Ok(Some(Way::Given));
        }
        let same = nsm_plan::alias(entry.id.key, entry.id.role);
        let found = stats::find_index(self.socket(netns)?, index)?;
        Ok(found.map(|state| {
            if state.group == REAP_GROUP || (state.group == GROUP && state.alias == same) {
                Way::Given
            } else {
                Way::Kept
            }
        }))
    }

    /// Whether a parameter has its value.
    pub(crate) fn reads(&mut self, sysctl: &Sysctl) -> Result<bool, ApplyError> {
        self.enter(sysctl.netns)?;
        let have = std::fs::read_to_string(format!("/proc/sys/net/{}", sysctl.path));
        Ok(have.is_ok_and(|have| have.trim_end() == sysctl.value))
    }

    fn write(&mut self, sysctl: &Sysctl) -> Result<(), ApplyError> {
        self.enter(sysctl.netns)?;
        let path = format!("/proc/sys/net/{}", sysctl.path);
        let object = || format!("net/{} in {}", sysctl.path, sysctl.netns);
        let have = std::fs::read_to_string(&path)
            .map_err(|e| KernelError::io("read sysctl", object(), &e))?;
        if have.trim_end() != sysctl.value {
            self.shared.steps.step();
            std::fs::write(&path, &sysctl.value)
                .map_err(|e| KernelError::io("write sysctl", object(), &e))?;
        }
        Ok(())
    }

    /// The index a link really has; the planned one unless it was taken.
    pub(crate) fn index(&self, netns: Netns, name: &IfName, planned: u32) -> u32 {
        self.indices
            .get(&(netns, name.clone()))
            .copied()
            .unwrap_or(planned)
    }
}

/// The interface of a route to the same destination in the main table.
fn through(message: &RouteNetlinkMessage, wanted: &Route) -> Option<u32> {
    let RouteNetlinkMessage::NewRoute(have) = message else {
        return None;
    };
    if have.header.table != RouteHeader::RT_TABLE_MAIN
        || have.header.destination_prefix_length != wanted.destination.prefix_len()
    {
        return None;
    }
    let wanted_address = RouteAddress::from(wanted.destination.addr());
    let destination = have
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => Some(address),
            _ => None,
        });
    // A default route has no destination.
    if destination.is_some_and(|address| *address != wanted_address) {
        return None;
    }
    have.attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        })
}
