//! The kernel as a table: what stands, and what was asked of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use nsm_forwarder::{Adopted, Counters, Gone, Kernel, KernelError, Namespaces, NetnsRef};
use nsm_model::mechanism::Vni;
use nsm_plan::{Changes, Entry, KeyDigest, Link, NetnsId, Plan, Resource, ResourceId};
use tokio::sync::mpsc;

/// A node's kernel. Like Linux it takes a VNI once.
#[derive(Default)]
pub(crate) struct Model(Mutex<State>);

#[derive(Default)]
struct State {
    standing: BTreeMap<ResourceId, Entry>,
    /// Who hears of what is taken away.
    ears: Option<mpsc::Sender<Gone>>,
    /// What somebody takes away as often as it is put back.
    fought: Option<fn(&Resource) -> bool>,
    /// How often something was put right.
    repairs: usize,
    /// Namespaces that were deleted.
    gone: BTreeSet<NetnsId>,
    foreign: Vec<Vni>,
    /// Refuse the first device with a VNI, whatever it is: somebody else has it.
    take_next: bool,
    fail_next: Option<KernelError>,
    /// How many plans are not let go of.
    keeps: usize,
    applied: usize,
    undone: usize,
}

/// What finds a namespace again: the model knows it by its identity alone.
fn place(id: NetnsId) -> NetnsRef {
    let (nsid, handle) = (i32::try_from(id.ino).unwrap_or(0), None);
    NetnsRef { id, nsid, handle }
}

fn vni(entry: &Entry) -> Option<Vni> {
    if let Resource::Link(Link::Vxlan { tunnel, .. }) = &entry.resource {
        return Some(tunnel.vni);
    }
    None
}

impl State {
    fn lose(&mut self, chosen: impl Fn(&Resource) -> bool) -> usize {
        let before = self.standing.len();
        let ears = self.ears.clone();
        self.standing.retain(|id, entry| {
            let lost = chosen(&entry.resource);
            if let (true, Some(ears)) = (lost, &ears) {
                ears.try_send(Gone::Link(id.key)).unwrap();
            }
            !lost
        });
        before - self.standing.len()
    }
}

impl Model {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// How many resources stand.
    pub(crate) fn standing(&self) -> usize {
        self.state().standing.len()
    }

    /// How often something was made, and how often a plan was taken back.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.applied, state.undone)
    }

    /// The VNIs that stand.
    pub(crate) fn vnis(&self) -> Vec<u32> {
        self.state()
            .standing
            .values()
            .filter_map(vni)
            .map(Vni::get)
            .collect()
    }

    /// Tells of what is taken away from now on.
    pub(crate) fn listen(&self) -> mpsc::Receiver<Gone> {
        let (tell, events) = mpsc::channel(64);
        self.state().ears = Some(tell);
        events
    }

    /// Somebody takes away whatever this chooses. How much that was.
    pub(crate) fn lose(&self, chosen: impl Fn(&Resource) -> bool) -> usize {
        self.state().lose(chosen)
    }

    /// Somebody takes it away whenever it is there, until there is nothing to choose.
    pub(crate) fn fight(&self, chosen: Option<fn(&Resource) -> bool>) {
        let mut state = self.state();
        state.fought = chosen;
        chosen.map(|chosen| state.lose(chosen));
    }

    /// The next so many plans cannot be taken back.
    pub(crate) fn keep(&self, plans: usize) {
        self.state().keeps = plans;
    }

    /// How often something was put right.
    pub(crate) fn repairs(&self) -> usize {
        self.state().repairs
    }

    /// A namespace is deleted with everything in it.
    pub(crate) fn delete(&self, netns: NetnsId) {
        let mut state = self.state();
        state.lose(|resource| resource.places().contains(&netns.into()));
        state.gone.insert(netns);
        if let Some(ears) = &state.ears {
            ears.try_send(Gone::Namespace(netns)).unwrap();
        }
    }

    /// The next change fails.
    pub(crate) fn fail_next(&self, error: KernelError) {
        self.state().fail_next = Some(error);
    }

    /// The next VNI that is asked for belongs to somebody else's device.
    pub(crate) fn take_next_vni(&self) {
        self.state().take_next = true;
    }
}

#[async_trait]
impl Kernel for Model {
    async fn apply(
        &self,
        changes: Changes,
        namespaces: Namespaces,
    ) -> Result<Vec<NetnsRef>, KernelError> {
        let changes = changes.with_gap();
        tokio::task::yield_now().await;
        let mut state = self.state();
        if let Some(error) = state.fail_next.take() {
            return Err(error);
        }
        let mut plan = Plan::default();
        changes
            .apply
            .iter()
            .cloned()
            .for_each(|entry| plan.add(entry));
        if let Some(missing) = plan
            .namespaces()
            .into_iter()
            .find(|id| !namespaces.contains_key(id))
        {
            return Err(KernelError::Refused(format!(
                "no descriptor of namespace {missing:?}"
            )));
        }
        for entry in &changes.undo {
            state.standing.remove(&entry.id);
        }
        for asked in changes.apply.iter().filter_map(vni) {
            if std::mem::take(&mut state.take_next) {
                state.foreign.push(asked);
            }
            let used = state
                .standing
                .values()
                .filter_map(vni)
                .any(|vni| vni == asked);
            if used || state.foreign.contains(&asked) {
                return Err(KernelError::VniInUse(asked));
            }
        }
        state.applied += 1;
        for entry in changes.apply {
            state.standing.insert(entry.id.clone(), entry);
        }
        Ok(plan.namespaces().into_iter().map(place).collect())
    }

    async fn adopt(&self, plan: &Plan, places: &[NetnsRef]) -> Result<Adopted, KernelError> {
        let known: BTreeSet<_> = places.iter().map(|place| place.id).collect();
        if !plan.namespaces().is_subset(&known) {
            let message = "the journal lacks a namespace of the plan";
            return Err(KernelError::Refused(message.to_owned()));
        }
        self.repair(plan).await
    }

    async fn repair(&self, plan: &Plan) -> Result<Adopted, KernelError> {
        tokio::task::yield_now().await;
        let mut state = self.state();
        let gone = &plan.namespaces() & &state.gone;
        if !gone.is_empty() {
            return Ok(Adopted::Gone(gone));
        }
        let mut repaired = Vec::new();
        for entry in plan.entries() {
            if state.standing.get(&entry.id) != Some(entry) {
                state.standing.insert(entry.id.clone(), entry.clone());
                repaired.push(Plan::from(vec![entry.clone()]).to_string());
            }
        }
        if repaired.is_empty() {
            return Ok(Adopted::AsItWas);
        }
        state.repairs += 1;
        if let Some(fought) = state.fought {
            state.lose(fought);
        }
        Ok(Adopted::Repaired(repaired))
    }

    async fn sweep(&self, known: BTreeSet<KeyDigest>) -> Result<usize, KernelError> {
        tokio::task::yield_now().await;
        let mut state = self.state();
        let before = state.standing.len();
        state.standing.retain(|id, _| known.contains(&id.key));
        Ok(before - state.standing.len())
    }

    async fn undo(&self, plan: Plan) -> Result<(), KernelError> {
        tokio::task::yield_now().await;
        let mut state = self.state();
        state.undone += 1;
        if let Some(less) = state.keeps.checked_sub(1) {
            state.keeps = less;
            return Err(KernelError::Refused("device or resource busy".to_owned()));
        }
        for entry in plan.entries() {
            state.standing.remove(&entry.id);
        }
        Ok(())
    }

    async fn stands(&self, plan: &Plan) -> Option<bool> {
        Some({
            let state = self.state();
            plan.entries()
                .iter()
                .all(|entry| state.standing.contains_key(&entry.id))
        })
    }

    async fn counters(&self, _: &Plan) -> Vec<(&'static str, Counters)> {
        Vec::new()
    }
}

/// A kernel of its own for each node.
pub(crate) fn node() -> Arc<Model> {
    Arc::default()
}
