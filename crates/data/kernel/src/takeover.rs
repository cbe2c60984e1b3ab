//! Replacing an interface while packets flow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use netlink_packet_route::link::LinkAttribute;
use nsm_plan::{Changes, End, Entry, Netns, Plan, REAP_GROUP, Resource, Swap};

use crate::error::ApplyError;
use crate::messages;
use crate::netlink::Request;
use crate::reaper::Corpse;
use crate::session::{Made, Session};
use crate::stats;
use crate::undo::Located;

/// How long an interface that was replaced still takes what is under way to it: longer than hops
/// further on leave their ends, whose last answers come this way, and little of the two seconds in
/// which everything is gone.
const LINGER: Duration = Duration::from_millis(800);

/// An end that goes: its index, and the bridge it is a port of.
type Going = (u32, Option<u32>);

impl Session<'_, '_> {
    /// Carries out changes with interfaces that take over from others; those stay on a failure.
    pub(crate) fn replace(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        let leaving = self.leaving(changes)?;
        let indices = leaving.iter().map(|(end, going)| (end.netns, going.0));
        self.yielding = indices.collect();
        self.replacing = true;
        // No route goes over before everything behind it is there.
        let swapped = |entry: &Entry| {
            let Resource::Route(route) = &entry.resource else {
                return false;
            };
            let mut swaps = changes.swaps.iter();
            swaps.any(|swap| (swap.new.netns, &swap.temporary) == (route.netns, &route.name))
        };
        let (routes, first): (Vec<_>, Vec<_>) = changes.apply.iter().cloned().partition(swapped);
        let mut made = Made::default();
        let done = self
            .put(&first, &mut made)
            .and_then(|()| self.put(&routes, &mut made))
            .and_then(|()| self.take_over(changes, &leaving));
        if let Err(error) = done {
            self.put_back(changes, made);
            return Err(error);
        }
        for (place, name) in self.corpses(changes, &leaving)? {
            self.shared
                .reaper
                .bury_after(LINGER, Corpse { place, name });
        }
        Ok(())
    }

    /// The ends of the links that are retired, as far as they are there.
    fn leaving(&mut self, changes: &Changes) -> Result<Vec<(End, Going)>, ApplyError> {
        let going: Plan = changes.retire.iter().cloned().collect();
        let mut leaving = Vec::new();
        for end in going.links().flat_map(|(_, link)| link.ends()) {
            let Located::Inside(index) = self.locate(end)? else {
                continue;
            };
            let state = stats::find_index(self.socket(end.netns)?, index)?;
            let master = state.and_then(|state| state.master);
            leaving.push((end.clone(), (index, master)));
        }
        Ok(leaving)
    }

    /// The old ends give up their names, group and aliases, and stay up; the new ones get the
    /// names, and a bridge's port its place.
    fn take_over(&mut self, changes: &Changes, leaving: &[(End, Going)]) -> Result<(), ApplyError> {
        let mut requests = BTreeMap::<Netns, Vec<Request>>::new();
        for (end, (index, master)) in leaving {
            let mut attributes = vec![
                LinkAttribute::IfName(messages::reaped_name(*index)),
                LinkAttribute::IfAlias(String::new()),
                LinkAttribute::Group(REAP_GROUP),
            ];
            attributes.extend(master.map(|_| LinkAttribute::Controller(0)));
            let request = messages::set_link(*index, attributes, end.name.as_str());
            requests.entry(end.netns).or_default().push(request);
        }
        for Swap {
            old,
            new,
            temporary,
        } in &changes.swaps
        {
            let index = self.index(new.netns, temporary, new.index);
            let mut attributes = vec![LinkAttribute::IfName(new.name.to_string())];
            let before = leaving.iter().find(|(end, _)| end == old);
            let master = before.and_then(|(_, (_, master))| *master);
            attributes.extend(master.filter(|_| new.bare).map(LinkAttribute::Controller));
            let request = messages::set_link(index, attributes, temporary.as_str());
            requests.entry(new.netns).or_default().push(request);
            self.indices.remove(&(new.netns, temporary.clone()));
            self.indices.insert((new.netns, new.name.clone()), index);
        }
        for (netns, requests) in requests {
            for outcome in self.socket(netns)?.batch(&requests)? {
                outcome?;
            }
        }
        Ok(())
    }

    /// One of each retired link's ends: deleting it deletes the other.
    fn corpses(
        &mut self,
        changes: &Changes,
        leaving: &[(End, Going)],
    ) -> Result<Vec<(messages::Place, String)>, ApplyError> {
        let going: Plan = changes.retire.iter().cloned().collect();
        let mut corpses = Vec::new();
        for (_, link) in going.links() {
            let there = leaving.iter().find(|(end, _)| link.ends().contains(&end));
            if let Some((end, (index, _))) = there {
                let Corpse { place, name } = self.corpse(end.netns, *index)?;
                corpses.push((place, name));
            }
        }
        Ok(corpses)
    }

    fn put_back(&mut self, changes: &Changes, made: Made) {
        self.yielding = BTreeSet::new();
        if let Err(error) = self.take_back(made) {
            tracing::error!(%error, "a failed replacement could not be taken away completely");
        }
        let before = changes.undo.iter().chain(&changes.retire);
        let mut before: Vec<Entry> = before.cloned().collect();
        before.reverse();
        if let Err(error) = self.put(&before, &mut Made::default()) {
            tracing::error!(%error, "the state before a failed replacement could not be restored");
        }
    }
}

/// Whether this kernel renames interfaces that are up (Linux 6.2).
pub(crate) fn renames_in_use() -> bool {
    let release = rustix::system::uname();
    let mut numbers = release.release().to_str().unwrap_or_default().split('.');
    let mut number = || numbers.next().and_then(|part| part.parse::<u32>().ok());
    (number(), number()) >= (Some(6), Some(2))
}
