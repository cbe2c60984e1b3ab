//! From one plan to another, and back to nothing.

use std::collections::BTreeSet;

use crate::{Entry, Plan, ResourceId};

/// What turns one plan's state into another's: first `undo`, then `apply`, each in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// To take away, dependants first.
    pub undo: Vec<Entry>,
    /// To put in place, dependencies first.
    pub apply: Vec<Entry>,
}

impl Changes {
    /// True when nothing has to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.undo.is_empty() && self.apply.is_empty()
    }
}

impl From<&Plan> for Changes {
    fn from(plan: &Plan) -> Self {
        Self {
            undo: Vec::new(),
            apply: plan.entries().to_vec(),
        }
    }
}

/// The changes from `old` to `new`. What is rebuilt takes everything that depends on it along.
#[must_use]
pub fn diff(old: &Plan, new: &Plan) -> Changes {
    let (had, wanted) = (old.by_id(), new.by_id());
    let mut broken: BTreeSet<&ResourceId> = BTreeSet::new();
    let mut undo = Vec::new();
    for entry in old.entries() {
        let kept = wanted.get(&entry.id).is_some_and(|next| {
            next.resource == entry.resource || next.resource.overwrites(&entry.resource)
        });
        if !kept || entry.after.iter().any(|id| broken.contains(id)) {
            broken.insert(&entry.id);
            undo.push(entry.clone());
        }
    }
    undo.reverse();
    let apply = new.entries().iter().filter(|entry| {
        broken.contains(&entry.id)
            || had
                .get(&entry.id)
                .is_none_or(|before| before.resource != entry.resource)
    });
    Changes {
        undo,
        apply: apply.cloned().collect(),
    }
}

/// What takes a plan away: its entries, dependants first.
#[must_use]
pub fn undo(plan: &Plan) -> Changes {
    diff(plan, &Plan::default())
}
