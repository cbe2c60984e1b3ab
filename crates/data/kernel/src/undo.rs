//! Taking resources away: at once out of use, deleted later.

use std::collections::BTreeSet;

use nsm_plan::{Address, End, Entry, Link, Netns, NetnsId, REAP_GROUP, Resource};

use crate::birth::is_end;
use crate::contents;
use crate::error::{ApplyError, KernelError, NetnsError};
use crate::messages::{self, Place};
use crate::netlink::Request;
use crate::reaper::Corpse;
use crate::session::Session;
use crate::stats::{self, LinkState};

/// Requests by namespace, in the order in which namespaces were first named.
type Queue = Vec<(Netns, Vec<Request>)>;

fn push(queue: &mut Queue, netns: Netns, requests: impl IntoIterator<Item = Request>) {
    match queue.iter_mut().find(|(at, _)| *at == netns) {
        Some((_, have)) => have.extend(requests),
        None => queue.push((netns, requests.into_iter().collect())),
    }
}

impl Session<'_, '_> {
    /// Takes entries away in their order. What is gone already, by itself or with its namespace, is
    /// a success.
    pub(crate) fn take_away(&mut self, entries: &[Entry]) -> Result<(), ApplyError> {
        let dying: BTreeSet<_> = entries
            .iter()
            .filter(|entry| matches!(entry.resource, Resource::Link(_)))
            .map(|entry| &entry.id)
            .collect();
        let mut queue = Queue::new();
        let mut corpses = Vec::new();
        // Routes, neighbours and IPv6 addresses leave with their link's carrier; IPv4 addresses
        // would stay until it is deleted.
        let mut held: Vec<&Address> = Vec::new();
        for entry in entries {
            let with_link = entry.after.iter().any(|id| dying.contains(id));
            match &entry.resource {
                Resource::Link(link) => corpses.extend(self.retire(link, &held, &mut queue)?),
                Resource::Address(a) if with_link => held.push(a),
                Resource::Address(a) => {
                    if let Some(index) = self.present(a.netns, &a.name, a.index)? {
                        push(&mut queue, a.netns, [contents::delete_address(index, a)]);
                    }
                }
                Resource::Route(r) if !with_link => {
                    if let Some(index) = self.present(r.netns, &r.name, r.index)? {
                        push(&mut queue, r.netns, [contents::delete_route(index, r)]);
                    }
                }
                Resource::Neighbour(n) if !with_link => {
                    if let Some(index) = self.present(n.netns, &n.name, n.index)? {
                        push(&mut queue, n.netns, [contents::delete_neighbour(index, n)]);
                    }
                }
                Resource::Route(_) | Resource::Neighbour(_) | Resource::Sysctl(_) => {}
            }
        }
        self.send(queue)?;
        for corpse in corpses {
            self.shared.reaper.bury(corpse);
        }
        Ok(())
    }

    /// Takes ends of ours out of use that stand in the way of a new link.
    pub(crate) fn retire_now(&mut self, ends: Vec<(End, u32)>) -> Result<(), ApplyError> {
        let mut queue = Queue::new();
        let mut corpses = Vec::new();
        for (end, index) in &ends {
            push(
                &mut queue,
                end.netns,
                messages::retire(*index, &object(end)),
            );
            corpses.push(self.corpse(end.netns, *index)?);
        }
        self.send(queue)?;
        for corpse in corpses {
            self.shared.reaper.bury(corpse);
        }
        Ok(())
    }

    /// Deletes what a process that died had closed in a link's namespaces.
    pub(crate) fn bury_left(&mut self, link: &Link) -> Result<(), ApplyError> {
        for end in link.ends() {
            let ask = messages::without_counters(messages::list_links(Place::Own));
            let links = self.socket(end.netns)?.dump(&ask)?;
            let states = links.iter().filter_map(stats::state);
            for state in states.filter(|state| state.group == REAP_GROUP) {
                let place = self.corpse(end.netns, state.index)?.place;
                let name = state.name;
                self.shared.reaper.bury(Corpse { place, name });
            }
        }
        Ok(())
    }

    fn retire(
        &mut self,
        link: &Link,
        held: &[&Address],
        queue: &mut Queue,
    ) -> Result<Option<Corpse>, ApplyError> {
        let mut corpse = None;
        for end in link.ends() {
            match self.locate(end)? {
                Located::Inside(index) => {
                    let here = |a: &&&Address| {
                        (a.netns, &a.name) == (end.netns, &end.name) && a.net.addr().is_ipv4()
                    };
                    let deletes = held
                        .iter()
                        .filter(here)
                        .map(|a| contents::delete_address(index, a));
                    push(queue, end.netns, deletes);
                    push(queue, end.netns, messages::retire(index, &object(end)));
                    // Deleting one end of a pair deletes the other.
                    corpse = Some(self.corpse(end.netns, index)?);
                }
                Located::Outside(place, index) => {
                    let request = messages::delete_link_by_index(place, index, &object(end));
                    ignore_gone(self.node.query(request).map(drop))?;
                }
                Located::Nowhere => {}
            }
        }
        Ok(corpse)
    }

    pub(crate) fn corpse(&mut self, netns: Netns, index: u32) -> Result<Corpse, ApplyError> {
        let place = match netns {
            Netns::Node => Place::Own,
            Netns::Id(id) => self
                .shared
                .nsid(id)
                .map(Place::Nsid)
                .ok_or(ApplyError::MissingNetns(id))?,
        };
        Ok(Corpse {
            place,
            name: messages::reaped_name(index),
        })
    }

    /// Where an end of ours is now, if it is.
    pub(crate) fn locate(&mut self, end: &End) -> Result<Located, ApplyError> {
        let at = (end.index, end.name.as_str());
        let wanted = |state: &LinkState| is_end(state, end);
        match end.netns {
            Netns::Id(id) if !self.reopen(id)? => {
                // Without a thread inside: through the number alone.
                let Some(place) = self.shared.nsid(id).map(Place::Nsid) else {
                    return Ok(Located::Nowhere);
                };
                let found = stats::find(&mut self.node, place, at, wanted)?;
                Ok(found.map_or(Located::Nowhere, |state| {
                    Located::Outside(place, state.index)
                }))
            }
            netns => {
                let found = stats::find(self.socket(netns)?, Place::Own, at, wanted)?;
                Ok(found.map_or(Located::Nowhere, |state| Located::Inside(state.index)))
            }
        }
    }

    /// Makes a namespace enterable; false when it is gone or cannot be entered again.
    fn reopen(&mut self, id: NetnsId) -> Result<bool, ApplyError> {
        if self.fds.contains_key(&id) {
            return Ok(true);
        }
        let Some(handle) = self.shared.handle(id) else {
            return Ok(false);
        };
        match handle.open(id) {
            Ok(fd) => {
                self.fds.insert(id, fd);
                Ok(true)
            }
            Err(NetnsError::Gone(_)) => {
                self.shared.forget(id);
                Ok(false)
            }
            Err(error) => {
                tracing::debug!(%error, "namespace cannot be opened again");
                Ok(false)
            }
        }
    }

    /// The index of an interface that is still there.
    fn present(
        &mut self,
        netns: Netns,
        name: &nsm_model::ifname::IfName,
        planned: u32,
    ) -> Result<Option<u32>, ApplyError> {
        if let Netns::Id(id) = netns
            && !self.reopen(id)?
        {
            return Ok(None);
        }
        if let Some(index) = self.indices.get(&(netns, name.clone())) {
            return Ok(Some(*index));
        }
        let at = (planned, name.as_str());
        let found = stats::find(self.socket(netns)?, Place::Own, at, LinkState::is_ours)?;
        let index = found.map(|state| state.index);
        if let Some(index) = index {
            self.indices.insert((netns, name.clone()), index);
        }
        Ok(index)
    }

    fn send(&mut self, queue: Queue) -> Result<(), ApplyError> {
        for (netns, requests) in queue {
            for outcome in self.socket(netns)?.batch(&requests)? {
                ignore_gone(outcome.map(drop))?;
            }
        }
        Ok(())
    }
}

pub(crate) enum Located {
    /// In a namespace that a thread can enter.
    Inside(u32),
    /// Reachable through its namespace's number only.
    Outside(Place, u32),
    Nowhere,
}

fn object(end: &End) -> String {
    format!("{} in {}", end.name, end.netns)
}

fn ignore_gone(outcome: Result<(), KernelError>) -> Result<(), KernelError> {
    match outcome {
        Err(error) if error.is_gone() => Ok(()),
        other => other,
    }
}
