//! What a hop that we asked has to prove before its answer counts: the client side of `authorize`.
//!
//! *What it does*: sdk `pkg/networkservice/common/authorize` (client): the standard client policies
//! over the whole path of an answer, then an operator's own. Upstream's managers and forwarders
//! leave it out, ours do not.
//! *Where it stands*: in `connect`, which asks before it remembers where the connection went or
//! lets the hop go that it came from.
//! *On Close*: nothing; whoever we asked is told to let go in any case.

use std::sync::Arc;

use nsm_api::connection::Connection;
use nsm_policy::{
    custom::Verdict,
    denial::{Denial, Kind},
    input::Input,
    proof::Proof,
    standard::Refused,
};

use super::authorize;
use crate::{Blame, Call, Error, Hop, Own, Tokens};

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Answers(Arc<dyn Tokens>);

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answers")
    }
}

impl Answers {
    /// Checks what peers answer to us.
    #[must_use]
    pub fn new(tokens: Arc<dyn Tokens>) -> Self {
        Self(tokens)
    }

    /// Holds an answer against the hop that gave it.
    ///
    /// # Errors
    /// What is not proved, or not allowed.
    pub(super) fn check(
        &self,
        call: &Call,
        hop: &dyn Hop,
        answer: &Connection,
    ) -> Result<(), Unaccepted> {
        let mut path = answer.path.clone().into_option().unwrap_or_default();
        // Which segment is ours is not the peer's to say.
        if let Ok(own) = Own::of(call) {
            path.index = own.index;
        }
        let proof = Proof {
            own: &self.0.own_id(),
            peer: hop.peer(),
            certificate: hop.certificate(),
            now: Some(self.0.now()),
            signatures: &*self.0,
        };
        proof.of_answer(&path)?;
        let Some(custom) = self.0.policies() else {
            return Ok(());
        };
        custom.client.check(&Input {
            path: &path,
            certificate: hop.certificate(),
            registration: None,
        })?;
        Ok(())
    }
}

/// Why an answer does not count.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unaccepted {
    /// By the native rules.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// By an operator's policy.
    #[error(transparent)]
    Verdict(#[from] Verdict),
}

impl Unaccepted {
    /// Whether another certificate of the hop may change it.
    pub(super) fn is_signature(&self) -> bool {
        matches!(self, Self::Refused(Refused::Signature { .. }))
    }
}

/// What our caller is told, and the operator.
pub(super) fn refuse(hop: &dyn Hop, answer: &Connection, why: &Unaccepted) -> Error {
    let (kind, error) = match why {
        Unaccepted::Refused(refused) => (Kind::Answer, authorize::error(refused)),
        Unaccepted::Verdict(verdict) => (Kind::Policy, authorize::against(hop.peer(), verdict)),
    };
    let what = format!("answer connection {}", answer.id);
    Denial::new(kind, hop.peer(), what, &error.message).tell();
    Error {
        blame: Blame::Peer,
        ..error
    }
}
