//! Making a plan be as it should be again, without touching what is right.

use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_route::link::LinkAttribute;
use nsm_plan::{
    Address, End, Entry, GROUP, Link, NetnsId, Plan, REAP_GROUP, Resource, Swap, alias_key,
    temporary_name,
};

use crate::birth::{indices, is_end, is_index, joins};
use crate::contents;
use crate::error::{ApplyError, NetnsError};
use crate::handle::NetnsRef;
use crate::have::Have;
use crate::messages::{self, Place};
use crate::netlink::Request;
use crate::netns::NetnsFd;
use crate::nsid;
use crate::owner::{self, Mark};
use crate::ready::port_onwards;
use crate::session::{Made, Session};
use crate::stats::{self, LinkState};

impl Session<'_, '_> {
    /// Opens a plan's namespaces again. Returns those that are gone.
    pub(crate) fn find_again(&mut self, plan: &Plan) -> Result<BTreeSet<NetnsId>, ApplyError> {
        let mut gone = BTreeSet::new();
        for id in plan.namespaces() {
            let found = match self.shared.place(id) {
                Some(place) => self.open_again(&place)?,
                None => None,
            };
            match found {
                Some(fd) => {
                    self.fds.insert(id, fd);
                }
                None => {
                    gone.insert(id);
                }
            }
        }
        Ok(gone)
    }

    fn open_again(&mut self, place: &NetnsRef) -> Result<Option<NetnsFd>, ApplyError> {
        let mut unsure = None;
        if let Some(handle) = &place.handle {
            match handle.open(place.id) {
                Ok(fd) => return Ok(Some(fd)),
                Err(NetnsError::Gone(_)) => return Ok(None),
                Err(error) => {
                    tracing::warn!(%error, "namespace cannot be opened by its handle");
                    unsure = Some(error);
                }
            }
        }
        // An inode's number is given again after a namespace's death; one's own number goes too.
        let Some(fd) = NetnsFd::of_a_process(place.id) else {
            // That it could not be opened does not say that it is gone.
            return unsure.map_or(Ok(None), |error| Err(error.into()));
        };
        let numbers = nsid::ensure(&mut self.node, &[&fd])?;
        Ok((numbers == [place.nsid]).then_some(fd))
    }

    /// Puts right what differs from a plan whose namespaces are open. Returns what that was.
    pub(crate) fn mend(&mut self, plan: &Plan) -> Result<Vec<String>, ApplyError> {
        let mut told = self.drop_strays(plan)?;
        let mut lost = Vec::new();
        for entry in plan.entries() {
            if let Resource::Link(link) = &entry.resource
                && !self.mend_link(link, &mut told)?
            {
                told.push(entry.to_string());
                lost.push(entry.clone());
            }
        }
        self.put(&lost, &mut Made::default())?;
        if let Some(port) = lost.iter().find_map(port_onwards) {
            self.wait_joined(port)?;
        }
        let wrong = self.wrong(plan)?;
        told.extend(wrong.iter().map(Entry::to_string));
        self.put(&wrong, &mut Made::default())?;
        if !told.is_empty() {
            self.ask_again(plan)?;
        }
        Ok(told)
    }

    /// Takes away what a process that died had born to take an interface's place.
    fn drop_strays(&mut self, plan: &Plan) -> Result<Vec<String>, ApplyError> {
        let mut strays = Vec::new();
        for end in plan.links().flat_map(|(_, link)| link.ends()) {
            let other = Swap::other(end);
            let Some(name) = temporary_name(other) else {
                continue;
            };
            let at = (other, name.as_str());
            let stray = |state: &LinkState| {
                is_end(state, end) && !is_index(state.index, end) && state.name == name.as_str()
            };
            let found = stats::find(self.socket(end.netns)?, Place::Own, at, stray)?;
            strays.extend(found.map(|state| (end.clone(), state.index)));
        }
        let told = strays.iter().map(|(end, _)| {
            format!(
                "link {} {}: its successor was half made",
                end.netns, end.name
            )
        });
        let told = told.collect();
        self.retire_now(strays)?;
        Ok(told)
    }

    /// Puts a link's ends right, and waits until one that was down carries packets; false when they
    /// are not all there or are no link of each other.
    fn mend_link(&mut self, link: &Link, told: &mut Vec<String>) -> Result<bool, ApplyError> {
        let mut states = Vec::new();
        for end in link.ends() {
            match self.own(link, end)? {
                Some(state) => states.push(state),
                None => return Ok(false),
            }
        }
        if !joins(link, &states) {
            return Ok(false);
        }
        for (end, state) in link.ends().into_iter().zip(&states) {
            self.indices
                .insert((end.netns, end.name.clone()), state.index);
            let (differs, requests) = puts_right(end, state, self.shared.wanted_mark());
            if differs.is_empty() {
                continue;
            }
            told.push(format!(
                "link {} {}: {}",
                end.netns,
                end.name,
                differs.join(", ")
            ));
            for outcome in self.socket(end.netns)?.batch(&requests)? {
                match outcome {
                    Err(error) if error.errno == libc::EEXIST => {
                        let (name, netns) = (end.name.clone(), end.netns);
                        return Err(ApplyError::NameInUse { name, netns });
                    }
                    other => drop(other?),
                }
            }
        }
        if states.iter().any(|state| !state.up) {
            self.wait_running(link)?;
        }
        Ok(true)
    }

    /// The link that is this end, under whatever name.
    fn own(&mut self, link: &Link, end: &End) -> Result<Option<LinkState>, ApplyError> {
        let wanted = |state: &LinkState| confirmed(state, end, link.kind());
        let socket = self.socket(end.netns)?;
        for index in indices(end.index) {
            let at = (index, end.name.as_str());
            if let Some(state) = stats::find(socket, Place::Own, at, wanted)? {
                return Ok(Some(state));
            }
        }
        Ok(None)
    }

    /// What of a plan is missing or different, beside its links. What cannot be overwritten is
    /// taken away.
    fn wrong(&mut self, plan: &Plan) -> Result<Vec<Entry>, ApplyError> {
        let mut known = BTreeMap::new();
        let mut wrong = Vec::new();
        for entry in plan.entries() {
            let Some(netns) = entry.resource.places().first().copied() else {
                continue;
            };
            let right = match &entry.resource {
                Resource::Link(_) => true,
                Resource::Sysctl(sysctl) => self.reads(sysctl)?,
                resource => {
                    let have = match known.entry(netns) {
                        MapEntry::Occupied(have) => have.into_mut(),
                        MapEntry::Vacant(free) => free.insert(Have::of(self.socket(netns)?)?),
                    };
                    if let Resource::Address(address) = resource {
                        self.clear(address, have)?;
                    }
                    self.has(have, resource)
                }
            };
            if !right {
                wrong.push(entry.clone());
            }
        }
        Ok(wrong)
    }

    fn has(&self, have: &Have, resource: &Resource) -> bool {
        match resource {
            Resource::Link(_) | Resource::Sysctl(_) => true,
            Resource::Address(a) => {
                let index = self.index(a.netns, &a.name, a.index);
                have.addresses.contains(&(index, a.net))
            }
            Resource::Route(r) => {
                let index = self.index(r.netns, &r.name, r.index);
                have.routes.contains(&(index, r.destination, r.via))
            }
            Resource::Neighbour(n) => {
                let index = self.index(n.netns, &n.name, n.index);
                have.neighbours
                    .contains(&(index, n.address, n.mac.to_vec()))
            }
        }
    }

    /// IPv6 has an address once on an interface: with another prefix length it is in the way.
    fn clear(&mut self, address: &Address, have: &Have) -> Result<(), ApplyError> {
        let index = self.index(address.netns, &address.name, address.index);
        let in_the_way = |(at, net): &&(u32, ipnet::IpNet)| {
            *at == index && net.addr() == address.net.addr() && *net != address.net
        };
        let Some((_, net)) = have.addresses.iter().find(in_the_way) else {
            return Ok(());
        };
        if net.addr().is_ipv6() {
            let other = Address {
                net: *net,
                ..address.clone()
            };
            let request = contents::delete_address(index, &other);
            self.socket(address.netns)?.execute(&[request])?;
        }
        Ok(())
    }
}

/// Whether a link is an end of a plan: its kind and index are right, and so are group and alias, of
/// which one may have been lost. A workload can forge all of these, in its own namespace alone.
fn confirmed(state: &LinkState, end: &End, kind: &str) -> bool {
    let by_alias = state.alias == end.alias && state.group != REAP_GROUP;
    let by_group = alias_key(&state.alias).is_none() && state.group == GROUP;
    state.kind == kind && is_index(state.index, end) && (by_alias || by_group)
}

/// What differs in a link of ours, in words, and what puts it right.
fn puts_right(end: &End, state: &LinkState, mark: Option<Mark>) -> (Vec<String>, Vec<Request>) {
    let (mut differs, mut attributes) = (Vec::new(), Vec::new());
    if state.name != end.name.as_str() {
        differs.push(format!("was named {}", state.name));
        attributes.push(LinkAttribute::IfName(end.name.to_string()));
    }
    if state.alias != end.alias {
        differs.push("was without its alias".to_owned());
    } else if state.mark != mark {
        let which = if mark.is_some() { "was without" } else { "had" };
        differs.push(format!("{which} its forwarder's mark"));
    }
    if (state.alias.as_str(), state.mark) != (end.alias.as_str(), mark) {
        attributes.push(LinkAttribute::IfAlias(owner::marked(mark, &end.alias)));
    }
    if state.group != GROUP {
        differs.push(format!("was in group {}", state.group));
        attributes.push(LinkAttribute::Group(GROUP));
    }
    if state.mtu != end.mtu.get() {
        differs.push(format!("had MTU {}", state.mtu));
        attributes.push(LinkAttribute::Mtu(end.mtu.get()));
    }
    if state.mac != end.mac {
        differs.push("had another hardware address".to_owned());
        attributes.push(LinkAttribute::Address(end.mac.to_vec()));
    }
    let object = format!("{} in {}", end.name, end.netns);
    let mut requests = Vec::new();
    if !attributes.is_empty() {
        requests.push(messages::set_link(state.index, attributes, &object));
    }
    if !state.up {
        differs.push("was down".to_owned());
        if end.bare {
            requests.push(messages::no_addresses(state.index, object.clone()));
        }
        requests.push(messages::set_up(state.index, true, &object));
    }
    (differs, requests)
}
