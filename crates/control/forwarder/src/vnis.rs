//! The VNIs in use on this node, and the ones that must not come back.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use nsm_chain::{Code, Error, seam};
use nsm_model::mechanism::{Vni, VniPicker, vni_parity};

/// The owner of a VNI of somebody else's device. No connection has this id: ours are UUIDs.
const FOREIGN: &str = "somebody else's";

/// Chooses VNIs for the endpoint's side of tunnels, and remembers whose each one is.
#[derive(Debug, Default)]
pub struct Vnis(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    picker: VniPicker,
    used: BTreeMap<Vni, String>,
}

impl Vnis {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A VNI for the connection with this id, towards the client's node `src` from ours, `dst`.
    ///
    /// # Errors
    /// `ResourceExhausted`: none is free for that peer.
    pub fn pick(&self, id: &str, src: IpAddr, dst: IpAddr) -> Result<Vni, Error> {
        let mut state = self.state();
        let random = (seam::chance() >> 32) as u32;
        let vni = state
            .picker
            .pick(src, vni_parity(src, dst), random, |vni| {
                state.used.contains_key(&vni)
            })
            .map_err(|error| Error::new(Code::ResourceExhausted, error.to_string()))?;
        state.used.insert(vni, id.to_owned());
        Ok(vni)
    }

    /// This VNI, chosen by a peer, is that connection's, unless it is another's: then the kernel
    /// will refuse it.
    pub fn claim(&self, id: &str, vni: Vni) {
        self.state()
            .used
            .entry(vni)
            .or_insert_with(|| id.to_owned());
    }

    /// The kernel refused this VNI to that connection: it belongs to a device that is none of its.
    pub fn lose(&self, id: &str, vni: Vni) {
        let mut state = self.state();
        let owner = state.used.entry(vni).or_default();
        if owner.is_empty() || owner == id {
            FOREIGN.clone_into(owner);
        }
    }

    /// The peer, or our own kernel, could not use this VNI: it is not chosen again for that peer.
    pub fn refuse(&self, peer: IpAddr, vni: Vni) {
        self.state().picker.refuse(peer, vni);
    }

    /// Gives back every VNI of a connection.
    pub fn release(&self, id: &str) {
        self.state().used.retain(|_, owner| owner != id);
    }

    /// Gives back one VNI of a connection.
    pub fn release_one(&self, id: &str, vni: Vni) {
        self.state()
            .used
            .retain(|used, owner| *used != vni || owner != id);
    }

    /// How many are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().used.len()
    }

    /// Whether none is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vni_is_used_once_and_refused_ones_do_not_come_back() {
        let vnis = Vnis::default();
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = vnis.pick("one", a, b).unwrap();
        assert_eq!(
            first.get() % 2,
            0,
            "the client's node is the lower one: even"
        );
        let second = vnis.pick("two", b, a).unwrap();
        assert_eq!(
            second.get() % 2,
            1,
            "the client's node is the higher one: odd"
        );
        vnis.refuse(a, first);
        vnis.release("one");
        assert_eq!(vnis.len(), 1);
        for _ in 0..100 {
            assert_ne!(vnis.pick("again", a, b).unwrap(), first);
        }
    }
}
