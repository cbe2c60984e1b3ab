//! One link in the place of another while packets flow.
//!
//! The new one is born under a temporary name and with an index of its own, beside the old one.
//! When it has its addresses the routes go over to it, then the name does; the old one goes last.

use nsm_model::ifname::IfName;

use crate::link::other_index;
use crate::{End, Entry, Link, Plan, Resource};

/// An interface that takes over from another, which carries packets until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The one that goes.
    pub old: End,
    /// The one that stays, as it is in the end.
    pub new: End,
    /// What it is called until then.
    pub temporary: IfName,
}

impl Swap {
    /// The index of what would take an end's place.
    #[must_use]
    pub fn other(end: &End) -> u32 {
        other_index(end.index)
    }
}

/// A plan as it follows another for the same connection: a link that stays keeps its index, and one
/// that takes an interface's place gets the other of the two that an interface may have. A link
/// whose addresses alone change stays, with the hardware address that it has.
#[must_use]
pub fn succeed(old: &Plan, new: Plan) -> Plan {
    let new = readdressed(old, new);
    let mut indices = Vec::new();
    for (_, link) in new.links() {
        let twin = old.links().find(|(_, had)| is_twin(had, link));
        for end in link.ends() {
            if let Some(index) = successor(old, twin.map(|(_, had)| had), end) {
                indices.push((end.clone(), index));
            }
        }
    }
    let index_of = |role, netns| {
        let found = indices
            .iter()
            .find(|(end, _)| (end.role, end.netns) == (role, netns));
        found.map(|(_, index)| *index)
    };
    let entries = Vec::from(new).into_iter().map(|mut entry| {
        let role = entry.id.role;
        match &mut entry.resource {
            Resource::Link(link) => {
                for end in link.ends_mut() {
                    end.index = index_of(end.role, end.netns).unwrap_or(end.index);
                }
            }
            Resource::Sysctl(_) => {}
            Resource::Address(a) => a.index = index_of(role, a.netns).unwrap_or(a.index),
            Resource::Route(r) => r.index = index_of(role, r.netns).unwrap_or(r.index),
            Resource::Neighbour(n) => n.index = index_of(role, n.netns).unwrap_or(n.index),
        }
        entry
    });
    entries.collect()
}

/// The same with the hardware addresses of links that stay but for those: they follow from
/// addresses, and an interface made anew would have nothing but another one.
fn readdressed(old: &Plan, new: Plan) -> Plan {
    let entries = Vec::from(new).into_iter().map(|mut entry| {
        if let Resource::Link(link) = &mut entry.resource {
            let mut had = old.links().filter(|(id, _)| **id == entry.id);
            let like = had.find_map(|(_, had)| with_macs_of(had, link));
            *link = like.unwrap_or_else(|| link.clone());
        }
        entry
    });
    entries.collect()
}

fn with_macs_of(old: &Link, new: &Link) -> Option<Link> {
    let mut like = new.clone();
    for (end, had) in like.ends_mut().into_iter().zip(old.ends()) {
        end.mac = had.mac;
    }
    is_twin(old, &like).then_some(like)
}

/// The old end in whose place a new one comes.
fn before<'p>(old: &'p Plan, end: &End) -> Option<&'p End> {
    let mut ends = old.links().flat_map(|(_, link)| link.ends());
    ends.find(|had| (had.role, had.netns) == (end.role, end.netns))
}

fn successor(old: &Plan, twin: Option<&Link>, end: &End) -> Option<u32> {
    let had = before(old, end)?;
    Some(match twin {
        Some(_) => had.index,
        None => other_index(had.index),
    })
}

/// Whether a link is another one but for its indices and MTUs.
fn is_twin(old: &Link, new: &Link) -> bool {
    let mut like = new.clone();
    for (end, had) in like.ends_mut().into_iter().zip(old.ends()) {
        end.index = had.index;
    }
    like == *old || like.resizes(old)
}

/// The interfaces that come with `new` in the place of one that goes.
pub(crate) fn swaps(gone: &[Entry], new: &[Entry]) -> Vec<Swap> {
    let going: Plan = gone.iter().cloned().collect();
    let coming: Plan = new.iter().cloned().collect();
    let ends = coming.links().flat_map(|(_, link)| link.ends());
    let swaps = ends.filter_map(|end| {
        let had = before(&going, end).filter(|had| had.index != end.index)?;
        let temporary = temporary_name(end.index)?;
        let (old, new) = (had.clone(), end.clone());
        Some(Swap {
            old,
            new,
            temporary,
        })
    });
    swaps.collect()
}

/// What an interface with this index is called until it takes another's place.
#[must_use]
pub fn temporary_name(index: u32) -> Option<IfName> {
    format!("nsn-{index:x}").parse().ok()
}

/// An entry as it is while its interface has its temporary name.
pub(crate) fn before_swap(entry: Entry, swaps: &[Swap]) -> Entry {
    named(entry, swaps, |swap| (&swap.new.name, &swap.temporary))
}

/// And afterwards.
pub(crate) fn after_swap(entry: Entry, swaps: &[Swap]) -> Entry {
    named(entry, swaps, |swap| (&swap.temporary, &swap.new.name))
}

fn named(mut entry: Entry, swaps: &[Swap], names: fn(&Swap) -> (&IfName, &IfName)) -> Entry {
    let role = entry.id.role;
    let of = |role, netns| {
        let mut swaps = swaps.iter();
        let swap = swaps.find(|swap| (swap.new.role, swap.new.netns) == (role, netns));
        swap.map(names)
    };
    let rename = |name: &mut IfName, names: Option<(&IfName, &IfName)>| {
        if let Some((_, to)) = names {
            to.clone_into(name);
        }
    };
    match &mut entry.resource {
        Resource::Link(link) => {
            for end in link.ends_mut() {
                rename(&mut end.name, of(end.role, end.netns));
            }
        }
        Resource::Sysctl(sysctl) => {
            if let Some((from, to)) = of(role, sysctl.netns) {
                let (from, to) = (format!("/{from}/"), format!("/{to}/"));
                sysctl.path = sysctl.path.replace(&from, &to);
            }
        }
        Resource::Address(a) => rename(&mut a.name, of(role, a.netns)),
        Resource::Route(r) => rename(&mut r.name, of(role, r.netns)),
        Resource::Neighbour(n) => rename(&mut n.name, of(role, n.netns)),
    }
    entry
}
