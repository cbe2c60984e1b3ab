//! What the answer to a registration has to prove: the client side of the registry's `authorize`.
//!
//! sdk `pkg/registry/common/authorize/{ns,nse}_client.go`: the standard client policies over the
//! path that comes back, then an operator's own (`NSM_REGISTRY_CLIENT_POLICIES`).

use std::time::SystemTime;

use nsm_api::connection::Path;
use nsm_chain::{Blame, Code, Error};
use nsm_identity::token;
use nsm_policy::{
    custom::Verdict,
    denial::{Denial, Kind},
    input::{Input, PathIds, Registration},
    proof::Proof,
    standard::Refused,
};

use crate::{link::PeerHandle, tokens::TokenSource};

/// Holds the path that came back against the peer that answered; `answer` is the name and the
/// `path_ids` of what is registered now. A peer whose SVID was renewed since we connected signs
/// with a key that this connection has not seen: it is given up, and whoever asks again gets a new
/// one.
pub(crate) fn check(
    peer: &PeerHandle,
    tokens: &TokenSource,
    path: &Path,
    answer: (&str, &[String]),
) -> Result<(), Error> {
    let own = tokens.source().current();
    let proof = Proof {
        own: own.id(),
        peer: &peer.peer().id,
        certificate: &peer.peer().certificate,
        now: Some(SystemTime::now()),
        signatures: tokens,
    };
    if let Err(refused) = proof.of_answer(path) {
        if matches!(refused, Refused::Signature { .. }) {
            peer.retire();
        } else {
            denied(Kind::Answer, peer, answer.0, &refused.to_string());
        }
        return Err(theirs(Code::Unauthenticated, &refused.to_string()));
    }
    ask(peer, tokens, path, answer)
}

/// An operator's policies, over the whole path.
fn ask(
    peer: &PeerHandle,
    tokens: &TokenSource,
    path: &Path,
    (name, path_ids): (&str, &[String]),
) -> Result<(), Error> {
    let policies = &tokens.policies().registry_client;
    if policies.is_empty() {
        return Ok(());
    }
    let first = path.path_segments.first();
    let first = first.and_then(|first| token::decode_unverified(&first.token).ok());
    let names = PathIds::from([(name.to_owned(), path_ids.to_vec())]);
    let registration = Registration {
        id: first.as_ref().map_or("", |first| &first.sub),
        name,
        path_ids: &names,
    };
    let verdict = policies.check(&Input {
        path,
        certificate: &peer.peer().certificate,
        registration: Some(registration),
    });
    verdict.map_err(|verdict| {
        denied(Kind::Policy, peer, name, &verdict.to_string());
        let peer = &peer.peer().id;
        let code = match verdict {
            Verdict::Denied(_) => Code::PermissionDenied,
            Verdict::Undecided { .. } => Code::Internal,
        };
        theirs(code, &format!("{peer}: {verdict}"))
    })
}

/// One line in the log.
pub(crate) fn denied(kind: Kind, peer: &PeerHandle, name: &str, why: &str) {
    let what = format!("answer registration {name}");
    Denial::new(kind, &peer.peer().id, what, why).tell();
}

fn theirs(code: Code, message: &str) -> Error {
    Error {
        blame: Blame::Peer,
        ..Error::new(code, message)
    }
}
