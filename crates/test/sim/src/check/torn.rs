//! What carries goes on carrying: a control plane that is away, or comes back, tears nothing down.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    kernel::Reached,
    roles::ClientRole,
    world::{Who, World, netns},
};

/// How long a connection may have no path while it is moved for a reason.
const MOVING: Duration = Duration::from_secs(3);

/// A path that was lost.
#[derive(Debug)]
struct Lost {
    path: Reached,
    at: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Torn {
    carried: BTreeMap<usize, (Reached, Instant)>,
    lost: BTreeMap<usize, Lost>,
    /// Clients that have closed and have been granted nothing since: what still stands of theirs is
    /// on its way out.
    left: BTreeSet<usize>,
}

impl Torn {
    /// One look; what was torn down without a reason.
    pub(super) fn look(&mut self, world: &World, paths: &[Option<Reached>]) -> Option<String> {
        for (place, path) in paths.iter().enumerate() {
            let pod = &world.clients[place];
            if !pod.wanted {
                self.left.insert(place);
            } else if pod.role.as_ref().is_some_and(ClientRole::connected) {
                self.left.remove(&place);
            }
            let stays = pod.wanted && !self.left.contains(&place);
            let wanted = stays && world.runs(Who::Client(place));
            match path {
                Some(path) if wanted => {
                    self.lost.remove(&place);
                    self.carried.insert(place, (path.clone(), Instant::now()));
                }
                _ if !wanted => {
                    self.lost.remove(&place);
                    self.carried.remove(&place);
                }
                _ => {
                    if let Some((path, at)) = self.carried.remove(&place) {
                        self.lost.insert(place, Lost { path, at });
                    }
                }
            }
        }
        let torn = |lost: &Lost| lost.at.elapsed() > MOVING && !has_reason(world, lost);
        let (place, lost) = self.lost.iter().find(|(_, lost)| torn(lost))?;
        let ago = lost.at.elapsed();
        let name = &world.clients[*place].name;
        Some(format!(
            "{name} carried until {ago:?} ago, and nothing has hurt its links"
        ))
    }
}

/// Whether something has happened to the data path itself.
fn has_reason(world: &World, lost: &Lost) -> bool {
    let since = lost.at - MOVING;
    let hurt = |(node, key): &(usize, nsm_plan::KeyDigest)| {
        let hurt = world.ground.kernels[*node].hurt(*key);
        hurt.is_some_and(|at| at >= since)
    };
    let nodes: Vec<usize> = lost.path.links.iter().map(|(node, _)| *node).collect();
    let parted = nodes
        .windows(2)
        .any(|pair| world.ground.net.parted_since(pair[0], pair[1], since));
    let namespaces = world
        .endpoints
        .iter()
        .filter_map(|pod| pod.namespace.as_ref());
    let stands = namespaces.map(netns).any(|id| id == lost.path.namespace);
    lost.path.links.iter().any(hurt) || parted || !stands
}
