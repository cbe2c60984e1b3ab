//! Carries plans out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use nsm_model::ifname::IfName;
use nsm_plan::{Changes, Entry, KeyDigest, Netns, NetnsId, Plan, Resource, ResourceId};

use crate::anchor::Anchors;
use crate::error::{ApplyError, NetnsError};
use crate::handle::{NetnsHandle, NetnsRef};
use crate::netns::{NetnsFd, Workers};
use crate::nsid;
use crate::reaper::Reaper;
use crate::session::Session;
use crate::stats::LinkState;
use crate::{Adopted, birth};

/// What an apply left behind in the kernel, beyond the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Every workload's namespace used: for a journal, for counters and for events.
    pub namespaces: Vec<NetnsRef>,
    /// Each interface's index, by place and name.
    pub indices: BTreeMap<(Netns, IfName), u32>,
}

/// A namespace with links of ours in it.
#[derive(Debug)]
pub(crate) struct Known {
    place: NetnsRef,
    /// The planned index and the kind of each end that is here.
    links: BTreeMap<ResourceId, Vec<(u32, &'static str)>>,
}

impl Known {
    pub(crate) fn holds(&self, state: &LinkState) -> bool {
        let mut ends = self.links.values().flatten();
        ends.any(|(planned, kind)| {
            state.kind == *kind && birth::indices(*planned).any(|one| one == state.index)
        })
    }
}

/// What all workers see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) reaper: Reaper,
    pub(crate) anchors: Anchors,
    known: Mutex<BTreeMap<NetnsId, Known>>,
    /// Whoever makes links reads; whoever sweeps writes, so that no link is half-born meanwhile.
    pub(crate) hands: RwLock<()>,
}

impl Shared {
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

    fn remember(&self, place: NetnsRef) {
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
    fn account(&self, gone: &[Entry], come: &[Entry], touched: &BTreeSet<NetnsId>) {
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
                    let ends = here.map(|end| (end.index, link.kind())).collect();
                    known.links.insert(entry.id.clone(), ends);
                }
            }
        }
        known.retain(|id, known| !touched.contains(id) || !known.links.is_empty());
    }
}

/// Turns plans into kernel state and back. Calls block for a fraction of a millisecond; any thread
/// may call.
#[derive(Debug)]
pub struct Executor {
    // Before the reaper in `shared`: a worker's last corpse must find it.
    workers: Workers,
    pub(crate) shared: Arc<Shared>,
}

impl Executor {
    /// An executor whose node is the calling thread's namespace.
    ///
    /// # Errors
    /// When threads or sockets cannot be had.
    pub fn new() -> Result<Self, NetnsError> {
        Self::within(&NetnsFd::current()?)
    }

    /// An executor whose node is `node`: tunnels' underlays and namespaces' numbers are there.
    ///
    /// # Errors
    /// When threads or sockets cannot be had.
    pub fn within(node: &NetnsFd) -> Result<Self, NetnsError> {
        let shared = Shared {
            reaper: Reaper::start(node)?,
            anchors: Anchors::default(),
            known: Mutex::default(),
            hands: RwLock::default(),
        };
        Ok(Self {
            workers: Workers::start(node)?,
            shared: Arc::new(shared),
        })
    }

    /// Puts a whole plan in place; what is there already is adopted.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing of the plan is left then.
    pub fn apply(
        &self,
        plan: &Plan,
        netns: &BTreeMap<NetnsId, NetnsFd>,
    ) -> Result<Applied, ApplyError> {
        self.change(&Changes::from(plan), netns)
    }

    /// Carries out changes between two plans.
    ///
    /// # Errors
    /// [`ApplyError`]; the state before is put back then.
    pub fn change(
        &self,
        changes: &Changes,
        netns: &BTreeMap<NetnsId, NetnsFd>,
    ) -> Result<Applied, ApplyError> {
        if changes.is_empty() {
            return Ok(Applied::default());
        }
        let needed = namespaces(changes.apply.iter());
        if let Some(missing) = needed.iter().find(|id| !netns.contains_key(id)) {
            return Err(ApplyError::MissingNetns(*missing));
        }
        let touched: BTreeSet<NetnsId> = namespaces(changes.undo.iter())
            .union(&needed)
            .copied()
            .collect();
        let fds: BTreeMap<_, _> = netns
            .iter()
            .filter(|(id, _)| touched.contains(id))
            .map(|(id, fd)| (*id, fd.clone()))
            .collect();
        let (changes, shared) = (changes.clone(), Arc::clone(&self.shared));
        self.workers.run(move |inside| {
            let _hand = shared.hand();
            let mut session = Session::new(inside, &shared, fds)?;
            let namespaces = number(&mut session, &shared)?;
            let done = session.apply(&changes);
            match done {
                Ok(()) => shared.account(&changes.undo, &changes.apply, &touched),
                Err(_) => shared.account(&[], &[], &touched),
            }
            done.map(|()| Applied {
                namespaces,
                indices: std::mem::take(&mut session.indices),
            })
        })?
    }

    /// Takes a plan away, without descriptors: when this returns, no packet, address, route or name
    /// of it is in use; the links are deleted soon after. What is gone already is a success.
    ///
    /// Works on what this executor applied or was told to [`adopt`](Self::adopt); about the
    /// namespaces of any other plan it knows nothing and does nothing.
    ///
    /// # Errors
    /// [`ApplyError`] when the kernel refuses.
    pub fn undo(&self, plan: &Plan) -> Result<(), ApplyError> {
        let changes = nsm_plan::undo(plan);
        let touched = plan.namespaces();
        let shared = Arc::clone(&self.shared);
        self.workers.run(move |inside| {
            let mut session = Session::new(inside, &shared, BTreeMap::new())?;
            session.take_away(&changes.undo)?;
            shared.account(&changes.undo, &[], &touched);
            Ok(())
        })?
    }

    /// Takes over what stands of a plan that an earlier process applied, as its journal says, and
    /// puts right what differs. `places` are the plan's namespaces as [`change`](Self::change) gave
    /// them; from now on this executor knows the plan.
    ///
    /// # Errors
    /// [`ApplyError`] when the kernel refuses; the plan is known all the same.
    pub fn adopt(&self, plan: &Plan, places: &[NetnsRef]) -> Result<Adopted, ApplyError> {
        for place in places {
            self.shared.remember(place.clone());
        }
        self.shared.account(&[], plan.entries(), &plan.namespaces());
        self.repair(plan)
    }

    /// Puts right what differs from a plan that was applied or adopted. What is right is not
    /// touched, and nothing that is not the plan's is.
    ///
    /// # Errors
    /// [`ApplyError`] when the kernel refuses; the plan may stand in part then.
    pub fn repair(&self, plan: &Plan) -> Result<Adopted, ApplyError> {
        let (plan, shared) = (plan.clone(), Arc::clone(&self.shared));
        self.workers.run(move |inside| {
            let _hand = shared.hand();
            let mut session = Session::new(inside, &shared, BTreeMap::new())?;
            let gone = session.find_again(&plan)?;
            if !gone.is_empty() {
                return Ok(Adopted::Gone(gone));
            }
            number(&mut session, &shared)?;
            let repaired = session.mend(&plan)?;
            Ok(if repaired.is_empty() {
                Adopted::AsItWas
            } else {
                Adopted::Repaired(repaired)
            })
        })?
    }

    /// Forgets a namespace that is gone.
    pub fn forget(&self, id: NetnsId) {
        self.shared.forget(id);
    }

    /// The number of a namespace that links of ours are in.
    #[must_use]
    pub fn number(&self, id: NetnsId) -> Option<i32> {
        self.shared.nsid(id)
    }

    /// The namespace with this number, if links of ours are in it.
    #[must_use]
    pub fn namespace(&self, nsid: i32) -> Option<NetnsId> {
        self.shared
            .known()
            .iter()
            .find(|(_, known)| known.place.nsid == nsid)
            .map(|(id, _)| *id)
    }

    /// Who deletes what was undone.
    #[must_use]
    pub fn reaper(&self) -> &Reaper {
        &self.shared.reaper
    }

    /// The threads that enter namespaces.
    #[must_use]
    pub fn workers(&self) -> &Workers {
        &self.workers
    }
}

fn namespaces<'e>(entries: impl Iterator<Item = &'e Entry>) -> BTreeSet<NetnsId> {
    let places = entries.flat_map(|entry| entry.resource.places());
    places
        .filter_map(|place| match place {
            Netns::Node => None,
            Netns::Id(id) => Some(id),
        })
        .collect()
}

/// Gives the session's namespaces their numbers in the node and remembers how to find them again.
fn number(session: &mut Session<'_, '_>, shared: &Shared) -> Result<Vec<NetnsRef>, ApplyError> {
    let fds: Vec<&NetnsFd> = session.fds.values().collect();
    let nsids = nsid::ensure(&mut session.node, &fds)?;
    let places = fds.iter().zip(nsids).map(|(fd, nsid)| NetnsRef {
        id: fd.id(),
        nsid,
        handle: NetnsHandle::of(fd),
    });
    let places: Vec<NetnsRef> = places.collect();
    for place in &places {
        shared.remember(place.clone());
    }
    Ok(places)
}
