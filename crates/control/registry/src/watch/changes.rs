//! What changed when: for a copy that lost its stream and comes back.
//!
//! A record that is there has its revision; one that was deleted is remembered by its name, up to a
//! limit. So whoever saw everything up to a revision gets what was written since as it is now, and
//! the names of what is gone: no history of values is kept.

use std::{collections::BTreeSet, sync::Arc};

/// How many deletions of a kind are remembered, here and in the store: those of some minutes in
/// the largest mesh, at about 100 bytes each. Beyond it who comes back gets everything.
pub(crate) const MAX_DELETIONS: usize = 16_384;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Changes {
    there: BTreeSet<(u64, Arc<str>)>,
    gone: BTreeSet<(u64, Arc<str>)>,
    /// Every deletion after this revision is known.
    since: u64,
}

/// A name that was written, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Changed<'a> {
    pub(super) revision: u64,
    pub(super) name: &'a Arc<str>,
    pub(super) deleted: bool,
}

impl Changes {
    /// A name has a value of this revision now; before, of that one.
    pub(super) fn put(&mut self, name: &Arc<str>, before: Option<u64>, revision: u64) {
        if let Some(before) = before {
            self.there.remove(&(before, Arc::clone(name)));
        }
        self.there.insert((revision, Arc::clone(name)));
    }

    /// A name is gone.
    pub(super) fn delete(&mut self, name: &Arc<str>, before: Option<u64>, revision: u64) {
        if let Some(before) = before {
            self.there.remove(&(before, Arc::clone(name)));
        }
        self.gone.insert((revision, Arc::clone(name)));
        while self.gone.len() > MAX_DELETIONS {
            let Some((forgotten, _)) = self.gone.pop_first() else {
                break;
            };
            self.since = forgotten;
        }
    }

    /// Deletions from before this process, of which all after `since` are known.
    pub(super) fn remember(&mut self, gone: Vec<(Arc<str>, u64)>, since: u64) {
        self.since = since;
        for (name, revision) in gone {
            self.delete(&name, None, revision);
        }
    }

    /// What changed at this revision or after it, in order; `None` if that is not known any more.
    ///
    /// The revision itself is included: one write of the store may have ended several records, and
    /// a stream may have broken between them.
    pub(super) fn from(&self, revision: u64) -> Option<Vec<Changed<'_>>> {
        if revision <= self.since {
            return None;
        }
        let start = (revision, Arc::from(""));
        let of = |deleted: bool| {
            move |(revision, name)| Changed {
                revision,
                name,
                deleted,
            }
        };
        let there = self.there.range(start.clone()..).map(|(r, n)| (*r, n));
        let gone = self.gone.range(start..).map(|(r, n)| (*r, n));
        let mut changed: Vec<_> = there.map(of(false)).chain(gone.map(of(true))).collect();
        changed.sort_unstable_by_key(|one| (one.revision, !one.deleted));
        Some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(changes: &Changes, from: u64) -> Option<Vec<String>> {
        let changed = changes.from(from)?;
        let sign = |one: &Changed<'_>| if one.deleted { '-' } else { '+' };
        Some(
            changed
                .iter()
                .map(|one| format!("{}{}@{}", sign(one), one.name, one.revision))
                .collect(),
        )
    }

    #[test]
    fn the_last_change_of_each_name_is_known() {
        let [a, b, c] = ["a", "b", "c"].map(Arc::<str>::from);
        let mut changes = Changes::default();
        changes.remember(vec![(Arc::clone(&c), 12)], 10);
        changes.put(&a, None, 13);
        changes.put(&b, None, 14);
        changes.put(&a, Some(13), 15);
        changes.delete(&b, Some(14), 16);
        changes.put(&b, None, 17);
        for (from, expected) in [
            (10, None),
            (11, Some(vec!["-c@12", "+a@15", "-b@16", "+b@17"])),
            (16, Some(vec!["-b@16", "+b@17"])),
            (18, Some(vec![])),
        ] {
            let expected: Option<Vec<String>> =
                expected.map(|list: Vec<&str>| list.into_iter().map(str::to_owned).collect());
            assert_eq!(said(&changes, from), expected, "from {from}");
        }
    }

    #[test]
    fn deletions_beyond_the_limit_are_forgotten() {
        let mut changes = Changes::default();
        for revision in 1..=MAX_DELETIONS as u64 + 5 {
            changes.delete(&Arc::from("n"), None, revision);
        }
        assert!(changes.from(5).is_none());
        assert_eq!(changes.from(6).map(|list| list.len()), Some(MAX_DELETIONS));
    }
}
