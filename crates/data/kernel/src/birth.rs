//! Making a link be there: born, adopted, or refused because something else is in its place.

use nsm_model::ifname::IfName;
use nsm_plan::{End, GROUP, Link, Netns};

use crate::error::{ApplyError, KernelError};
use crate::messages::{self, Place};
use crate::netlink::Request;
use crate::session::Session;
use crate::stats::{self, LinkState};

/// Other indices tried when a link's derived one is taken: by its own retired predecessor, mostly.
const INDEX_TRIES: u32 = 8;
/// Distance between those: past the range of derived indices, see `nsm_plan::derived_index`.
const INDEX_STEP: u32 = 0x0100_0000;
/// A closed VXLAN device keeps its VNI until the reaper has deleted it: about 20 ms, rarely more.
const REAPER_WAIT: std::time::Duration = std::time::Duration::from_millis(500);

/// What is where a link should be.
enum Found {
    Nothing,
    Ours(Vec<LinkState>),
    Part(Vec<(End, u32)>),
    /// The same by earlier names.
    Earlier(Vec<(End, u32)>),
    /// Something else has the index.
    Taken,
    Foreign(IfName, Netns),
}

impl Session<'_, '_> {
    /// Makes a link be there. True when it was not.
    pub(crate) fn create(&mut self, link: &Link) -> Result<bool, ApplyError> {
        if let Link::Vxlan { tunnel, .. } = link {
            self.anchor(tunnel)?;
        }
        let (mut salt, mut waited, mut last) = (0, false, None);
        while salt < INDEX_TRIES {
            let request = self.birth(link, salt)?;
            let Err(error) = self.node.query(request) else {
                for end in link.ends() {
                    self.indices
                        .insert((end.netns, end.name.clone()), salted(end, salt));
                }
                return Ok(true);
            };
            if error.errno != libc::EEXIST && error.errno != libc::EBUSY {
                return Err(error.into());
            }
            match (self.look(link, salt)?, link) {
                (Found::Foreign(name, netns), _) => {
                    return Err(ApplyError::NameInUse { name, netns });
                }
                (Found::Ours(states), _) if fits(link, &states) => {
                    for (end, state) in link.ends().into_iter().zip(states) {
                        self.indices
                            .insert((end.netns, end.name.clone()), state.index);
                    }
                    return Ok(false);
                }
                (Found::Ours(states), _) => {
                    let ends = link
                        .ends()
                        .into_iter()
                        .cloned()
                        .zip(states.iter().map(|state| state.index));
                    self.retire_now(ends.collect())?;
                }
                (Found::Part(ends), _) => self.retire_now(ends)?,
                (Found::Earlier(ends), _) => {
                    self.retire_now(ends)?;
                    // It is rare, and to have the derived index again makes the next one be found.
                    if self.shared.reaper.wait_idle(REAPER_WAIT) && !waited {
                        waited = true;
                        continue;
                    }
                }
                (found @ (Found::Nothing | Found::Taken), Link::Vxlan { tunnel, .. })
                    if error.errno == libc::EEXIST =>
                {
                    if !waited {
                        waited = true;
                        self.bury_left(link)?;
                        if self.shared.reaper.pending() > 0 {
                            let _in_time = self.shared.reaper.wait_idle(REAPER_WAIT);
                            continue;
                        }
                    }
                    if matches!(found, Found::Nothing) {
                        let (vni, port) = (tunnel.vni, tunnel.port);
                        return Err(ApplyError::VniInUse { vni, port });
                    }
                }
                (Found::Nothing | Found::Taken, _) => {}
            }
            salt += 1;
            last = Some(error);
        }
        Err(last
            .unwrap_or_else(|| KernelError::new("create link", link.kind(), libc::EEXIST))
            .into())
    }

    fn birth(&self, link: &Link, salt: u32) -> Result<Request, ApplyError> {
        Ok(match link {
            Link::Veth { far, near } => messages::new_veth(
                (far, salted(far, salt), self.fd(far.netns)?),
                (near, salted(near, salt), self.fd(near.netns)?),
            ),
            Link::Vxlan { end, tunnel } => {
                messages::new_vxlan(end, salted(end, salt), self.fd(end.netns)?, tunnel)
            }
        })
    }

    fn look(&mut self, link: &Link, salt: u32) -> Result<Found, ApplyError> {
        let mut states = Vec::new();
        let mut part = Vec::new();
        let mut taken = false;
        for end in link.ends() {
            let at = (end.index, end.name.as_str());
            let socket = self.socket(end.netns)?;
            let named = stats::find(socket, Place::Own, at, |state| state.name == at.1)?;
            let Some(state) = named else {
                let (earlier, occupied) = self.earlier(end, salt)?;
                part.extend(earlier.map(|index| (end.clone(), index)));
                taken |= occupied;
                continue;
            };
            if !is_end(&state, end) {
                return Ok(Found::Foreign(end.name.clone(), end.netns));
            }
            part.push((end.clone(), state.index));
            states.push(state);
        }
        Ok(match states.len() {
            0 if !part.is_empty() => Found::Earlier(part),
            // EEXIST in kernels since 6.15, EBUSY before.
            0 if taken => Found::Taken,
            0 => Found::Nothing,
            n if n == link.ends().len() => Found::Ours(states),
            _ => Found::Part(part),
        })
    }

    /// The same end by an earlier name, if there is one (endpoints of the Go implementation name it
    /// anew for a forwarder that was started again), and whether anything has this index.
    fn earlier(&mut self, end: &End, salt: u32) -> Result<(Option<u32>, bool), ApplyError> {
        let mut taken = false;
        for tried in 0..INDEX_TRIES {
            let at = (salted(end, tried), end.name.as_str());
            let socket = self.socket(end.netns)?;
            let found = stats::find(socket, Place::Own, at, |state| state.index == at.0)?;
            match found {
                Some(state) if is_end(&state, end) => {
                    return Ok((Some(state.index), true));
                }
                other => taken |= tried == salt && other.is_some(),
            }
        }
        Ok((None, taken))
    }
}

/// Whether a link in the kernel is this end: it carries its alias, or was born as it and never got
/// one.
pub(crate) fn is_end(state: &LinkState, end: &End) -> bool {
    let half_born = state.alias.is_empty() && is_index(state.index, end);
    state.group == GROUP && (state.alias == end.alias || half_born)
}

/// Whether what is there can be adopted as it is; alias, MTU and up are set again in any case.
fn fits(link: &Link, states: &[LinkState]) -> bool {
    let same = |(end, state): (&&End, &LinkState)| {
        state.mac == end.mac && is_index(state.index, end) && state.kind == link.kind()
    };
    link.ends().iter().zip(states).all(same) && joins(link, states)
}

/// Whether links that are a link's ends by their looks are that link: each other's peers, or a
/// tunnel of its number to its peer.
pub(crate) fn joins(link: &Link, states: &[LinkState]) -> bool {
    match (link, states) {
        (Link::Veth { .. }, [far, near]) => {
            far.peer == Some(near.index) && near.peer == Some(far.index)
        }
        (Link::Vxlan { tunnel, .. }, [state]) => {
            state.vni == Some(tunnel.vni.get()) && state.remote == Some(tunnel.remote)
        }
        (Link::Veth { .. } | Link::Vxlan { .. }, _) => false,
    }
}

/// Whether an end may have been born with this index.
pub(crate) fn is_index(index: u32, end: &End) -> bool {
    indices(end.index).any(|one| one == index)
}

/// What a link's end with this planned index may be born with.
pub(crate) fn indices(planned: u32) -> impl Iterator<Item = u32> {
    (0..INDEX_TRIES).map(move |salt| planned + salt * INDEX_STEP)
}

fn salted(end: &End, salt: u32) -> u32 {
    end.index + salt * INDEX_STEP
}
