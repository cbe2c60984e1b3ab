//! One visit of a worker to the namespaces of a plan: sockets, and the steps of putting resources in place.

use std::collections::BTreeMap;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use nsm_model::ifname::IfName;
use nsm_plan::{Changes, End, Entry, GROUP, Link, Netns, NetnsId, Resource, Route, Sysctl};

use crate::error::{ApplyError, KernelError};
use crate::executor::Shared;
use crate::messages::{self, Place};
use crate::netlink::{Request, Socket};
use crate::netns::{Inside, NetnsFd};
use crate::stats::{self, LinkState};

/// Other indices tried when a link's derived one is taken: by its own retired predecessor, mostly.
const INDEX_TRIES: u32 = 8;
/// Distance between those: past the range of derived indices, see `nsm_plan::derived_index`.
const INDEX_STEP: u32 = 0x0100_0000;
/// A closed VXLAN device keeps its VNI until the reaper has deleted it: about 20 ms, rarely more.
const REAPER_WAIT: std::time::Duration = std::time::Duration::from_millis(500);

/// One visit. Its sockets close with it, so that no namespace stays pinned.
pub(crate) struct Session<'a, 'b> {
    inside: &'a mut Inside<'b>,
    pub(crate) shared: &'a Shared,
    pub(crate) fds: BTreeMap<NetnsId, NetnsFd>,
    pub(crate) node: Socket,
    sockets: BTreeMap<NetnsId, Socket>,
    pub(crate) indices: BTreeMap<(Netns, IfName), u32>,
    here: Netns,
}

/// What an apply has put in place so far, so that it can be taken away again.
#[derive(Debug, Default)]
struct Made(Vec<Entry>);

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

/// What is where a link should be.
enum Found {
    Nothing,
    Ours(Vec<LinkState>),
    Part(Vec<(End, u32)>),
    Foreign(IfName, Netns),
}

impl<'a, 'b> Session<'a, 'b> {
    pub(crate) fn new(
        inside: &'a mut Inside<'b>,
        shared: &'a Shared,
        fds: BTreeMap<NetnsId, NetnsFd>,
    ) -> Result<Self, ApplyError> {
        let node = Socket::open()?;
        let (sockets, indices) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self {
            inside,
            shared,
            fds,
            node,
            sockets,
            indices,
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
            self.sockets.insert(id, Socket::open()?);
        }
        self.sockets
            .get_mut(&id)
            .ok_or(ApplyError::MissingNetns(id))
    }

    fn fd(&self, netns: Netns) -> Result<&NetnsFd, ApplyError> {
        match netns {
            Netns::Node => Ok(self.inside.node()),
            Netns::Id(id) => self.fds.get(&id).ok_or(ApplyError::MissingNetns(id)),
        }
    }

    /// Carries changes out; on a failure the state before is put back as far as the kernel allows.
    pub(crate) fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        self.take_away(&changes.undo)?;
        let mut made = Made::default();
        let done = self.put(&changes.apply, &mut made);
        if done.is_err() {
            made.0.reverse();
            if let Err(error) = self.take_away(&made.0) {
                tracing::error!(%error, "a failed plan could not be taken away completely");
            }
            let before: Vec<Entry> = changes.undo.iter().rev().cloned().collect();
            if let Err(error) = self.put(&before, &mut Made::default()) {
                tracing::error!(%error, "the state before a failed plan could not be restored");
            }
        }
        done
    }

    fn put(&mut self, entries: &[Entry], made: &mut Made) -> Result<(), ApplyError> {
        let mut queue = Queue::new();
        for entry in entries {
            match &entry.resource {
                Resource::Link(link) => {
                    if self.create(link)? {
                        made.0.push(entry.clone());
                    }
                    for end in link.ends() {
                        let index = self.index(end.netns, &end.name, end.index);
                        for request in messages::settle(end, index) {
                            push(&mut queue, end.netns, Step { request, entry });
                        }
                    }
                }
                Resource::Sysctl(sysctl) => self.write(sysctl)?,
                Resource::Address(a) => {
                    let request = messages::new_address(self.index(a.netns, &a.name, a.index), a);
                    push(&mut queue, a.netns, Step { request, entry });
                }
                Resource::Route(r) => {
                    let request =
                        messages::new_route(self.index(r.netns, &r.name, r.index), r, false);
                    push(&mut queue, r.netns, Step { request, entry });
                }
                Resource::Neighbour(n) => {
                    let request = messages::new_neighbour(self.index(n.netns, &n.name, n.index), n);
                    push(&mut queue, n.netns, Step { request, entry });
                }
            }
        }
        queue
            .into_iter()
            .try_for_each(|(netns, steps)| self.flush(netns, steps, made))
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
                    self.route_exists(route)
                }
                (Err(error), _) => Err(error.into()),
            };
            first = first.and(done);
        }
        first
    }

    /// The destination has a route already: ours to (over)write, or somebody else's.
    fn route_exists(&mut self, route: &Route) -> Result<(), ApplyError> {
        let index = self.index(route.netns, &route.name, route.index);
        let mut ask = RouteMessage::default();
        ask.header.address_family = messages::family(route.destination.addr());
        let ask = Request::new(
            "list routes",
            route.netns.to_string(),
            0,
            RouteNetlinkMessage::GetRoute(ask),
        );
        let socket = self.socket(route.netns)?;
        let routes = socket.dump(&ask)?;
        let through = routes
            .iter()
            .filter_map(|message| through(message, route))
            .collect::<Vec<_>>();
        if through.contains(&index) {
            socket.execute(&[messages::new_route(index, route, true)])?;
            return Ok(());
        }
        Err(ApplyError::RouteInUse {
            destination: route.destination,
            netns: route.netns,
        })
    }

    fn write(&mut self, sysctl: &Sysctl) -> Result<(), ApplyError> {
        self.enter(sysctl.netns)?;
        let path = format!("/proc/sys/net/{}", sysctl.path);
        let object = || format!("net/{} in {}", sysctl.path, sysctl.netns);
        let have = std::fs::read_to_string(&path)
            .map_err(|e| KernelError::io("read sysctl", object(), &e))?;
        if have.trim_end() != sysctl.value {
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

    /// Makes a link be there. True when it was not.
    fn create(&mut self, link: &Link) -> Result<bool, ApplyError> {
        let (mut salt, mut waited, mut last) = (0, false, None);
        while salt < INDEX_TRIES {
            let request = self.birth(link, salt)?;
            let Err(error) = self.node.query(request) else {
                for end in link.ends() {
                    self.indices
                        .insert((end.netns, end.name.clone()), salted(end, salt));
                }
                return Ok(true);
            };
            if error.errno != libc::EEXIST && error.errno != libc::EBUSY {
                return Err(error.into());
            }
            match (self.look(link)?, link) {
                (Found::Foreign(name, netns), _) => {
                    return Err(ApplyError::NameInUse { name, netns });
                }
                (Found::Ours(states), _) if fits(link, &states) => {
                    for (end, state) in link.ends().into_iter().zip(states) {
                        self.indices
                            .insert((end.netns, end.name.clone()), state.index);
                    }
                    return Ok(false);
                }
                (Found::Ours(states), _) => {
                    let ends = link
                        .ends()
                        .into_iter()
                        .cloned()
                        .zip(states.iter().map(|state| state.index));
                    self.retire_now(ends.collect())?;
                }
                (Found::Part(ends), _) => self.retire_now(ends)?,
                (Found::Nothing, Link::Vxlan { tunnel, .. }) if error.errno == libc::EEXIST => {
                    if waited || self.shared.reaper.pending() == 0 {
                        return Err(ApplyError::VniInUse {
                            vni: tunnel.vni,
                            port: tunnel.port,
                        });
                    }
                    waited = self.shared.reaper.wait_idle(REAPER_WAIT) || !waited;
                    continue;
                }
                (Found::Nothing, _) => {}
            }
            salt += 1;
            last = Some(error);
        }
        Err(last
            .unwrap_or_else(|| KernelError::new("create link", link.kind(), libc::EEXIST))
            .into())
    }

    fn birth(&self, link: &Link, salt: u32) -> Result<Request, ApplyError> {
        Ok(match link {
            Link::Veth { far, near } => messages::new_veth(
                (far, salted(far, salt), self.fd(far.netns)?),
                (near, salted(near, salt), self.fd(near.netns)?),
            ),
            Link::Vxlan { end, tunnel } => {
                messages::new_vxlan(end, salted(end, salt), self.fd(end.netns)?, tunnel)
            }
        })
    }

    fn look(&mut self, link: &Link) -> Result<Found, ApplyError> {
        let mut states = Vec::new();
        let mut part = Vec::new();
        for end in link.ends() {
            let [_, named] = stats::find(
                self.socket(end.netns)?,
                Place::Own,
                end.index,
                end.name.as_str(),
            )?;
            let Some(state) = named else { continue };
            if !is_end(&state, end) {
                return Ok(Found::Foreign(end.name.clone(), end.netns));
            }
            part.push((end.clone(), state.index));
            states.push(state);
        }
        Ok(match states.len() {
            0 => Found::Nothing,
            n if n == link.ends().len() => Found::Ours(states),
            _ => Found::Part(part),
        })
    }
}

/// Whether a link in the kernel is this end: it carries its alias, or was born as it and never got one.
pub(crate) fn is_end(state: &LinkState, end: &End) -> bool {
    let half_born = state.alias.is_empty() && state.group == GROUP && state.index == end.index;
    state.group == GROUP && (state.alias == end.alias || half_born)
}

/// Whether what is there can be adopted as it is; alias, MTU and up are set again in any case.
fn fits(link: &Link, states: &[LinkState]) -> bool {
    let vni = match link {
        Link::Veth { .. } => None,
        Link::Vxlan { tunnel, .. } => Some(tunnel.vni.get()),
    };
    link.ends()
        .iter()
        .zip(states)
        .all(|(end, state)| state.mac == end.mac && state.vni == vni)
}

fn salted(end: &End, salt: u32) -> u32 {
    end.index + salt * INDEX_STEP
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
