//! Deleting what nobody owns: what a process that died had begun, or had not ended.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use nsm_plan::{GROUP, KeyDigest, REAP_GROUP, alias_key};

use crate::error::ApplyError;
use crate::executor::Executor;
use crate::known::Shared;
use crate::messages::{list_links, without_counters};
use crate::netlink::Socket;
use crate::nsid;
use crate::reaper::Corpse;
use crate::stats::{self, LinkState};

/// Links deleted while nobody else may make any: 16 threads take some 80 ms for them.
const AT_ONCE: usize = 64;
/// That and much more; what is left after it is deleted all the same, but later.
const PATIENCE: Duration = Duration::from_secs(2);

impl Executor {
    /// Deletes links in the node's namespace and in every numbered one that have our group or
    /// an alias of ours and belong to nobody: neither to a plan that this executor applied or
    /// adopted, nor to one with these keys; and those that wait for their deletion. A link that
    /// names a key of a plan that this executor knows, and is not that plan's, is nobody's. Returns
    /// how many.
    ///
    /// # Errors
    /// [`ApplyError`] when the kernel cannot be asked; a link that cannot be deleted is logged.
    pub fn sweep(&self, known: &BTreeSet<KeyDigest>) -> Result<usize, ApplyError> {
        let mut node = self.workers().run(|_| Socket::open())??;
        let numbers = nsid::all(&mut node)?;
        // The node's own namespace has a number where a workload of ours lives in it: without one
        // there is nothing of ours there, and what is there is looked at by its number alone.
        let places = numbers.into_iter().map(Some);
        let shared = &self.shared;
        let mut swept = 0;
        for place in places {
            let seen = orphans(&mut node, place, shared, known)?.count();
            for _ in 0..seen.div_ceil(AT_ONCE) {
                // Seen without the lock, one may only have been half-born.
                let _hands = shared.hands.write().unwrap_or_else(PoisonError::into_inner);
                for link in orphans(&mut node, place, shared, known)?.take(AT_ONCE) {
                    tracing::info!(
                        name = link.name,
                        alias = link.alias,
                        nsid = place,
                        "a link that nobody owns: deleting it"
                    );
                    let (place, name) = (stats::place(place), link.name);
                    shared.reaper.bury(Corpse { place, name });
                    swept += 1;
                }
                let _in_time = shared.reaper.wait_idle(PATIENCE);
            }
        }
        Ok(swept)
    }
}

fn orphans<'a>(
    node: &mut Socket,
    nsid: Option<i32>,
    shared: &'a Shared,
    known: &'a BTreeSet<KeyDigest>,
) -> Result<impl Iterator<Item = LinkState> + 'a, ApplyError> {
    let ask = without_counters(list_links(stats::place(nsid)));
    let links = match node.dump(&ask) {
        Ok(links) => links,
        // Its number went while we counted.
        Err(error) if error.is_gone() || error.errno == libc::EINVAL => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let links: Vec<LinkState> = links.iter().filter_map(stats::state).collect();
    let held = shared.keys();
    let orphaned = move |link: &LinkState| {
        let named = alias_key(&link.alias);
        if link.group == REAP_GROUP {
            return true;
        }
        if (link.group != GROUP && named.is_none()) || shared.holds(nsid, link) {
            return false;
        }
        named.is_none_or(|key| held.contains(&key) || !known.contains(&key))
    };
    Ok(links.into_iter().filter(orphaned))
}
