//! Deleting what nobody owns: what a process that died had begun, or had not ended.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use nsm_plan::{GROUP, KeyDigest, REAP_GROUP, alias_key};

use crate::error::ApplyError;
use crate::executor::Executor;
use crate::known::Shared;
use crate::messages::{Place, list_links, without_counters};
use crate::netlink::Socket;
use crate::nsid;
use crate::reaper::Corpse;
use crate::stats::{self, LinkState};

/// Links deleted while nobody else may make any: 16 threads take some 80 ms for them.
const AT_ONCE: usize = 64;
/// That and much more; what is left after it is deleted all the same, but later.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a link that says no name may be: another process has just borne it, or just retired it. One
/// that is still there after this long is neither (the reaper has half of it for whatever waits).
const SETTLE: Duration = Duration::from_secs(2);

/// A link in a namespace: its number there, its index.
type At = (i32, u32);

/// Whose a link is that no plan here speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Somebody's: another forwarder's of this node, or nothing of ours at all.
    Somebodys,
    /// Nobody's if it stays as it is.
    Unsaid,
    Nobodys,
}

impl Executor {
    /// Links with this forwarder's mark whose key is neither among these nor one of a plan that
    /// this executor knows: how many there are.
    ///
    /// # Errors
    /// [`ApplyError`] when the kernel cannot be asked.
    pub fn unknown(&self, known: &BTreeSet<KeyDigest>) -> Result<usize, ApplyError> {
        let mut node = self.workers().run(|_| Socket::open())??;
        let (mut unknown, held) = (0, self.shared.keys());
        for place in nsid::all(&mut node)? {
            let strays = strays(&mut node, place, &self.shared, known)?;
            let strays = strays.filter(|(link, whose)| {
                let key = alias_key(&link.alias);
                *whose == Whose::Nobodys && key.is_none_or(|key| !held.contains(&key))
            });
            unknown += strays.count();
        }
        Ok(unknown)
    }

    /// Deletes links in every namespace that has a number in the node's, which have our group or
    /// an alias of ours and belong to nobody: neither to a plan that this executor applied or
    /// adopted, nor to one with these keys; and those that wait for their deletion. A link that
    /// names a key of a plan that this executor knows, and is not that plan's, is nobody's. One
    /// with the mark of another forwarder is that one's, whatever it is; one of an unknown key
    /// without any mark may be that of a forwarder of a version before, and is left alone. Returns
    /// how many.
    ///
    /// # Errors
    /// [`ApplyError`] when the kernel cannot be asked; a link that cannot be deleted is logged.
    pub fn sweep(&self, known: &BTreeSet<KeyDigest>) -> Result<usize, ApplyError> {
        self.sweep_settled(known, SETTLE)
    }

    /// As [`sweep`](Self::sweep), where other forwarders have done what they were at after
    /// `settle`.
    ///
    /// # Errors
    /// As [`sweep`](Self::sweep).
    pub fn sweep_settled(
        &self,
        known: &BTreeSet<KeyDigest>,
        settle: Duration,
    ) -> Result<usize, ApplyError> {
        let mut node = self.workers().run(|_| Socket::open())??;
        // The node's own namespace has a number where a workload of ours lives in it: without one
        // there is nothing of ours there, and what is there is looked at by its number alone.
        let places = nsid::all(&mut node)?;
        let shared = &self.shared;
        let mut unsaid = BTreeSet::new();
        for place in &places {
            let found = strays(&mut node, *place, shared, known)?;
            let found = found.filter(|(_, whose)| *whose == Whose::Unsaid);
            unsaid.extend(found.map(|(link, _)| (*place, link.index)));
        }
        if !unsaid.is_empty() {
            std::thread::sleep(settle);
        }
        let mut swept = 0;
        for place in places {
            let seen = orphans(&mut node, place, shared, known, &unsaid)?.count();
            for _ in 0..seen.div_ceil(AT_ONCE) {
                // Seen without the lock, one may only have been half-born.
                let _hands = shared.hands.write().unwrap_or_else(PoisonError::into_inner);
                for link in orphans(&mut node, place, shared, known, &unsaid)?.take(AT_ONCE) {
                    tracing::info!(
                        name = link.name,
                        alias = link.alias,
                        nsid = place,
                        "a link that nobody owns: deleting it"
                    );
                    let (place, name) = (Place::Nsid(place), link.name);
                    shared.reaper.bury(Corpse { place, name });
                    swept += 1;
                }
                let _in_time = shared.reaper.wait_idle(PATIENCE);
            }
        }
        Ok(swept)
    }
}

/// Links of a namespace that are nobody's; of those that say no name only these.
fn orphans<'a>(
    node: &mut Socket,
    nsid: i32,
    shared: &'a Shared,
    known: &'a BTreeSet<KeyDigest>,
    unsaid: &'a BTreeSet<At>,
) -> Result<impl Iterator<Item = LinkState> + 'a, ApplyError> {
    let strays = strays(node, nsid, shared, known)?;
    Ok(strays.filter_map(move |(link, whose)| {
        let orphaned = whose == Whose::Nobodys || unsaid.contains(&(nsid, link.index));
        orphaned.then_some(link)
    }))
}

fn strays<'a>(
    node: &mut Socket,
    nsid: i32,
    shared: &'a Shared,
    known: &'a BTreeSet<KeyDigest>,
) -> Result<impl Iterator<Item = (LinkState, Whose)> + 'a, ApplyError> {
    let ask = without_counters(list_links(Place::Nsid(nsid)));
    let links = match node.dump(&ask) {
        Ok(links) => links,
        // Its number went while we counted.
        Err(error) if error.is_gone() || error.errno == libc::EINVAL => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let links: Vec<LinkState> = links.iter().filter_map(stats::state).collect();
    let held = shared.keys();
    let whose = move |link: &LinkState| match alias_key(&link.alias) {
        _ if link.group == REAP_GROUP => Whose::Unsaid,
        _ if shared.holds(Some(nsid), link) => Whose::Somebodys,
        None if link.group == GROUP => Whose::Unsaid,
        None => Whose::Somebodys,
        Some(_) if link.mark.is_some_and(|mark| mark != shared.mark) => Whose::Somebodys,
        Some(key) if held.contains(&key) => Whose::Nobodys,
        Some(key) if link.mark.is_some() && !known.contains(&key) => Whose::Nobodys,
        Some(_) => Whose::Somebodys,
    };
    let all = links.into_iter().map(move |link| {
        let whose = whose(&link);
        (link, whose)
    });
    Ok(all.filter(|(_, whose)| *whose != Whose::Somebodys))
}
