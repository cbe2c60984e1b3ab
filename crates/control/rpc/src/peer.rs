//! Who is on the other side of a connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use nsm_chain::{Call, Caller};
use nsm_identity::{Identity, tls::PeerSvid};
use nsm_model::spiffe::SpiffeId;

use crate::fdtable::Descriptors;

/// The other side of one connection, as its handshake proved it. Servers find an `Arc<Peer>` in
/// each request's extensions; clients in the [`PeerHandle`](crate::pool::PeerHandle).
#[derive(Debug)]
pub struct Peer {
    /// Its SPIFFE ID.
    pub id: SpiffeId,
    /// Its leaf certificate, DER; its tokens are verified with it.
    pub certificate: Arc<[u8]>,
    /// The end of its certificate's life.
    pub not_after: SystemTime,
    /// The descriptors that cross this connection.
    pub descriptors: Descriptors,
    /// Whether it is on this node: a unix socket.
    pub local: bool,
    /// Its address, for messages: a socket address, or the path of the unix socket.
    pub address: String,
    /// Our own SVID, as it was shown to the peer: it checks our tokens with it.
    pub shown: Arc<Identity>,
    /// Half of what that one had left: a client connects again by then, and sees a newer one.
    signs_until: SystemTime,
    /// Somebody was told that its clock is off.
    skew_told: AtomicBool,
}

impl Peer {
    pub(crate) fn new(
        svid: &PeerSvid,
        descriptors: Descriptors,
        local: bool,
        address: String,
        shown: Arc<Identity>,
    ) -> Arc<Self> {
        let now = SystemTime::now();
        let left = shown.not_after().duration_since(now).unwrap_or_default();
        Arc::new(Self {
            id: svid.id.clone(),
            certificate: svid.leaf.as_ref().into(),
            not_after: svid.not_after,
            descriptors,
            local,
            address,
            shown,
            signs_until: now + left / 2,
            skew_told: AtomicBool::new(false),
        })
    }

    /// Whose key signs answers on this connection, unless that is to be the newest one.
    pub(crate) fn signer(&self, now: SystemTime) -> Option<Arc<Identity>> {
        (now < self.signs_until).then(|| Arc::clone(&self.shown))
    }

    /// Whether nobody was told yet that its clock is off; from now on somebody was.
    pub(crate) fn first_skew(&self) -> bool {
        !self.skew_told.swap(true, Ordering::Relaxed)
    }

    /// The peer as a chain sees it.
    #[must_use]
    pub fn caller(self: &Arc<Self>) -> Caller {
        Caller {
            id: self.id.clone(),
            certificate: Arc::clone(&self.certificate),
            descriptors: Arc::new(self.descriptors.clone()),
        }
    }

    /// The peer that made a call, where it came over the wire.
    #[must_use]
    pub fn of(call: &Call) -> Option<Arc<Self>> {
        call.scratch.get()
    }
}
