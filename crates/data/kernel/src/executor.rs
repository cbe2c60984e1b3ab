//! Carries plans out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nsm_model::ifname::IfName;
use nsm_plan::{Changes, End, KeyDigest, Netns, NetnsId, Plan};

use crate::Adopted;
use crate::error::{ApplyError, NetnsError};
use crate::handle::{NetnsHandle, NetnsRef};
use crate::known::{Shared, namespaces};
use crate::netns::{NetnsFd, Workers};
use crate::nsid;
use crate::owner::Mark;
use crate::reaper::Reaper;
use crate::session::Session;
use crate::steps::Steps;

/// What an apply left behind in the kernel, beyond the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Every workload's namespace used: for a journal, for counters and for events.
    pub namespaces: Vec<NetnsRef>,
    /// Each interface's index, by place and name.
    pub indices: BTreeMap<(Netns, IfName), u32>,
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
    /// An executor of the forwarder with this name, whose node is the calling thread's namespace.
    ///
    /// # Errors
    /// When threads or sockets cannot be had.
    pub fn new(name: &str) -> Result<Self, NetnsError> {
        Self::within(&NetnsFd::current()?, name)
    }

    /// An executor whose node is `node`: tunnels' underlays and namespaces' numbers are there.
    ///
    /// # Errors
    /// When threads or sockets cannot be had.
    pub fn within(node: &NetnsFd, name: &str) -> Result<Self, NetnsError> {
        Self::stepping(node, name, Steps::default())
    }

    /// An executor that tells of each change before it makes it.
    ///
    /// # Errors
    /// When threads or sockets cannot be had.
    pub fn stepping(node: &NetnsFd, name: &str, steps: Steps) -> Result<Self, NetnsError> {
        Ok(Self {
            workers: Workers::start(node)?,
            shared: Arc::new(Shared::start(node, Mark::of(name), steps)?),
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
        let mut netns = netns.clone();
        for id in &needed {
            if !netns.contains_key(id) {
                netns.insert(*id, self.reopened(*id)?);
            }
        }
        let touched: BTreeSet<NetnsId> = namespaces(changes.undo.iter().chain(&changes.retire))
            .union(&needed)
            .copied()
            .collect();
        let fds: BTreeMap<_, _> = netns
            .iter()
            .filter(|(id, _)| touched.contains(id))
            .map(|(id, fd)| (*id, fd.clone()))
            .collect();
        let (mut changes, shared) = (changes.clone(), Arc::clone(&self.shared));
        if !shared.renames {
            changes = changes.with_gap();
        }
        self.workers.run(move |inside| {
            let _hand = shared.hand();
            let mut session = Session::new(inside, &shared, fds)?;
            let namespaces = number(&mut session, &shared)?;
            let done = session.apply(&changes);
            match done {
                Ok(()) => {
                    shared.account(&changes.retire, &[], &BTreeSet::new());
                    shared.account(&changes.undo, &changes.settled(), &touched);
                }
                Err(_) => shared.account(&[], &[], &touched),
            }
            done.map(|()| Applied {
                namespaces,
                indices: std::mem::take(&mut session.indices),
            })
        })?
    }

    /// A namespace with links of ours, without a descriptor of it.
    fn reopened(&self, id: NetnsId) -> Result<NetnsFd, ApplyError> {
        let handle = self.shared.handle(id);
        handle.map_or(Err(ApplyError::MissingNetns(id)), |handle| {
            Ok(handle.open(id)?)
        })
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

    /// Whether links that are made or repaired from now on have this forwarder's mark: those
    /// without one are never swept, unless a plan that is known says that they are not its own.
    pub fn mark(&self, on: bool) {
        self.shared.marking.store(on, Ordering::Relaxed);
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
        self.shared.numbered(nsid)
    }

    /// What a link with this index should be, in the namespace with this number: the connection's
    /// key, and the end.
    #[must_use]
    pub fn expected(&self, nsid: Option<i32>, index: u32) -> Option<(KeyDigest, End)> {
        self.shared.expected(nsid, index)
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
