//! From one plan to another, and back to nothing.

use std::collections::BTreeSet;

use crate::replace::{Swap, after_swap, before_swap, swaps};
use crate::{Entry, Plan, ResourceId};

/// What turns one plan's state into another's: first `undo`, then `apply`, then `swaps`, and after
/// a while `retire`, each in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// To take away first, dependants first.
    pub undo: Vec<Entry>,
    /// To put in place, dependencies first. Interfaces that take another's place have their
    /// temporary names here; their routes overwrite those of the other.
    pub apply: Vec<Entry>,
    /// Interfaces that take over then: the old one's name becomes free, the new one gets its own.
    pub swaps: Vec<Swap>,
    /// What carried packets until then, dependants first: to take away when the last ones that are
    /// under way have come.
    pub retire: Vec<Entry>,
}

impl Changes {
    /// True when nothing has to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.undo.is_empty() && self.apply.is_empty() && self.retire.is_empty()
    }

    /// What is put in place, as it is when every interface has its own name.
    #[must_use]
    pub fn settled(&self) -> Vec<Entry> {
        let apply = self.apply.iter().cloned();
        apply.map(|entry| after_swap(entry, &self.swaps)).collect()
    }

    /// The same with a gap, for a kernel that cannot rename an interface in use: the old goes
    /// before the new comes.
    #[must_use]
    pub fn with_gap(self) -> Self {
        Self {
            apply: self.settled(),
            undo: self.undo.into_iter().chain(self.retire).collect(),
            ..Self::default()
        }
    }
}

impl From<&Plan> for Changes {
    fn from(plan: &Plan) -> Self {
        Self {
            apply: plan.entries().to_vec(),
            ..Self::default()
        }
    }
}

/// The changes from `old` to `new`. What is rebuilt takes everything that depends on it along.
/// Where `new` [succeeds](crate::succeed) `old`, packets flow throughout.
#[must_use]
pub fn diff(old: &Plan, new: &Plan) -> Changes {
    let (had, wanted) = (old.by_id(), new.by_id());
    let mut broken: BTreeSet<&ResourceId> = BTreeSet::new();
    let mut gone = Vec::new();
    for entry in old.entries() {
        let kept = wanted.get(&entry.id).is_some_and(|next| {
            next.resource == entry.resource || next.resource.overwrites(&entry.resource)
        });
        if !kept || entry.after.iter().any(|id| broken.contains(id)) {
            broken.insert(&entry.id);
            gone.push(entry.clone());
        }
    }
    gone.reverse();
    let apply = new.entries().iter().filter(|entry| {
        broken.contains(&entry.id)
            || had
                .get(&entry.id)
                .is_none_or(|before| before.resource != entry.resource)
    });
    let apply: Vec<Entry> = apply.cloned().collect();
    let swaps = swaps(&gone, &apply);
    let going = |entry: &Entry| swaps.iter().any(|swap| stands_on(old, entry, swap));
    let (retire, undo) = gone.into_iter().partition(going);
    Changes {
        undo,
        apply: apply
            .into_iter()
            .map(|entry| before_swap(entry, &swaps))
            .collect(),
        swaps,
        retire,
    }
}

/// Whether an entry is the link of an interface that is replaced, or fills one of that link's ends.
fn stands_on(old: &Plan, entry: &Entry, swap: &Swap) -> bool {
    let is_link = |id: &ResourceId| {
        let mut links = old.links();
        links.any(|(link, had)| link == id && had.ends().contains(&&swap.old))
    };
    is_link(&entry.id) || entry.after.iter().any(is_link)
}

/// What takes a plan away: its entries, dependants first.
#[must_use]
pub fn undo(plan: &Plan) -> Changes {
    diff(plan, &Plan::default())
}
