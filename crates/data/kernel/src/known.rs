//! What an executor remembers: namespaces with links of ours, and how each is found again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use nsm_plan::{End, Entry, KeyDigest, Netns, NetnsId, Resource, ResourceId};

use crate::anchor::Anchors;
use crate::birth;
use crate::error::NetnsError;
use crate::handle::{NetnsHandle, NetnsRef};
use crate::netns::NetnsFd;
use crate::owner::Mark;
use crate::reaper::Reaper;
use crate::stats::LinkState;
use crate::steps::Steps;
use crate::takeover;

/// A namespace with links of ours in it.
#[derive(Debug)]
struct Known {
    place: NetnsRef,
    /// Each end that is here, and its link's kind.
    links: BTreeMap<ResourceId, Vec<(End, &'static str)>>,
}

impl Known {
    fn holds(&self, state: &LinkState) -> bool {
        let mut ends = self.links.values().flatten();
        ends.any(|(end, kind)| state.kind == *kind && birth::is_index(state.index, end))
    }
}

/// What all workers see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) steps: Steps,
    /// Whose links are swept here.
    pub(crate) mark: Mark,
    /// Whether it is put on links.
    pub(crate) marking: AtomicBool,
    /// Whether interfaces are replaced without a gap.
    pub(crate) renames: bool,
    pub(crate) reaper: Reaper,
    pub(crate) anchors: Anchors,
    known: Mutex<BTreeMap<NetnsId, Known>>,
    /// Whoever makes links reads; whoever sweeps writes, so that no link is half-born meanwhile.
    pub(crate) hands: RwLock<()>,
}

impl Shared {
    pub(crate) fn start(node: &NetnsFd, mark: Mark, steps: Steps) -> Result<Self, NetnsError> {
        Ok(Self {
            steps,
            mark,
            marking: AtomicBool::new(true),
            renames: takeover::renames_in_use(),
            reaper: Reaper::start(node)?,
            anchors: Anchors::default(),
            known: Mutex::default(),
            hands: RwLock::default(),
        })
    }

    /// What links of ours have in their alias.
    pub(crate) fn wanted_mark(&self) -> Option<Mark> {
        self.marking.load(Ordering::Relaxed).then_some(self.mark)
    }

    /// Held while links are made.
    pub(crate) fn hand(&self) -> RwLockReadGuard<'_, ()> {
        self.hands.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every connection with links here.
    pub(crate) fn keys(&self) -> BTreeSet<KeyDigest> {
        let known = self.known();
        let links = known.values().flat_map(|known| known.links.keys());
        links.map(|id| id.key).collect()
    }

    /// Whether a link of a namespace is one of the plans'.
    pub(crate) fn holds(&self, nsid: Option<i32>, state: &LinkState) -> bool {
        let known = self.known();
        let mut here = known
            .values()
            .filter(|known| Some(known.place.nsid) == nsid);
        here.any(|known| known.holds(state))
    }

    /// The connection and the end that a link of a namespace should be, by its index.
    pub(crate) fn expected(&self, nsid: Option<i32>, index: u32) -> Option<(KeyDigest, End)> {
        let known = self.known();
        let here = known
            .values()
            .filter(|known| Some(known.place.nsid) == nsid);
        let mut ends = here.flat_map(|known| &known.links);
        ends.find_map(|(id, ends)| {
            let end = ends.iter().find(|(end, _)| birth::is_index(index, end));
            end.map(|(end, _)| (id.key, end.clone()))
        })
    }

    pub(crate) fn numbered(&self, nsid: i32) -> Option<NetnsId> {
        let known = self.known();
        let mut all = known.iter();
        all.find(|(_, known)| known.place.nsid == nsid)
            .map(|(id, _)| *id)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<NetnsId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn nsid(&self, id: NetnsId) -> Option<i32> {
        self.known().get(&id).map(|known| known.place.nsid)
    }

    pub(crate) fn place(&self, id: NetnsId) -> Option<NetnsRef> {
        self.known().get(&id).map(|known| known.place.clone())
    }

    pub(crate) fn handle(&self, id: NetnsId) -> Option<NetnsHandle> {
        self.known()
            .get(&id)
            .and_then(|known| known.place.handle.clone())
    }

    pub(crate) fn forget(&self, id: NetnsId) {
        self.known().remove(&id);
    }

    pub(crate) fn remember(&self, place: NetnsRef) {
        let mut known = self.known();
        match known.get_mut(&place.id) {
            Some(have) => have.place = place,
            None => {
                known.insert(
                    place.id,
                    Known {
                        place,
                        links: BTreeMap::new(),
                    },
                );
            }
        }
    }

    /// Links come and go; a namespace without any is forgotten.
    pub(crate) fn account(&self, gone: &[Entry], come: &[Entry], touched: &BTreeSet<NetnsId>) {
        let mut known = self.known();
        for (entries, add) in [(gone, false), (come, true)] {
            for entry in entries {
                let Resource::Link(link) = &entry.resource else {
                    continue;
                };
                for id in namespaces(std::iter::once(entry)) {
                    let Some(known) = known.get_mut(&id) else {
                        continue;
                    };
                    if !add {
                        known.links.remove(&entry.id);
                        continue;
                    }
                    let here = link.ends().into_iter().filter(|end| end.netns == id.into());
                    let ends = here.map(|end| (end.clone(), link.kind())).collect();
                    known.links.insert(entry.id.clone(), ends);
                }
            }
        }
        known.retain(|id, known| !touched.contains(id) || !known.links.is_empty());
    }
}

/// The workloads' namespaces that entries speak of.
pub(crate) fn namespaces<'e>(entries: impl Iterator<Item = &'e Entry>) -> BTreeSet<NetnsId> {
    let places = entries.flat_map(|entry| entry.resource.places());
    places
        .filter_map(|place| match place {
            Netns::Node => None,
            Netns::Id(id) => Some(id),
        })
        .collect()
}
