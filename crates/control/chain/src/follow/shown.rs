//! What goes through a peer, and what of it the peer shows.

use std::collections::{BTreeMap, BTreeSet};

use super::Change;

/// See the module: our ids of connections.
#[derive(Debug, Default)]
pub(super) struct Shown {
    ids: BTreeSet<String>,
    /// What the peer has shown on this stream, and what had become of it; nothing is known before
    /// its first word.
    shown: Option<BTreeMap<String, Option<Change>>>,
    /// What it must have: asked for again if it does not show it.
    expected: BTreeSet<String>,
}

/// What a peer has said on a stream that a connection joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Nothing yet.
    None,
    /// Nothing of this connection, which has to be looked at by and by.
    OfOthers,
    /// That it has it; and what had become of it, which nobody followed then.
    Shown(Option<Change>),
}

impl Shown {
    pub(super) fn insert(&mut self, id: &str) {
        self.ids.insert(id.to_owned());
    }

    /// Whether that was the last one.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        self.expected.remove(id);
        self.ids.remove(id);
        self.ids.is_empty()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.ids.iter().cloned().collect()
    }

    /// A stream begins: where it is not the first one, what was asked for before must be in it.
    pub(super) fn begin(&mut self, resumed: bool) {
        self.shown = None;
        self.expected.clear();
        if resumed {
            self.expected.clone_from(&self.ids);
        }
    }

    /// The peer must have this one.
    pub(super) fn expect(&mut self, id: &str) -> Word {
        let word = self.shown.as_ref().map(|shown| shown.get(id));
        if let Some(Some(change)) = word {
            return Word::Shown(*change);
        }
        self.expected.insert(id.to_owned());
        match word {
            Some(_) => Word::OfOthers,
            None => Word::None,
        }
    }

    /// The peer has spoken: of none, perhaps.
    pub(super) fn spoken(&mut self) {
        self.shown.get_or_insert_default();
    }

    /// The peer shows this one and what has become of it, or that it is gone: that is told by
    /// itself.
    pub(super) fn see(&mut self, id: &str, deleted: bool, change: Option<Change>) {
        self.expected.remove(id);
        let shown = self.shown.get_or_insert_default();
        if deleted {
            shown.remove(id);
        } else {
            shown.insert(id.to_owned(), change);
        }
    }

    /// One that the peer must have and has not shown, and whether there are more.
    pub(super) fn missing(&mut self) -> (Option<String>, bool) {
        let one = self.expected.pop_first();
        (one, !self.expected.is_empty())
    }
}
