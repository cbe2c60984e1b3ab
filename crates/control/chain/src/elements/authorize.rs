//! `authorize`: a caller must prove each step of the path as far as keys are known.
//!
//! *What it does*: what [`Proof::of_request`] asks of the path's segments up to our own, the
//! standard server policies (sdk `pkg/tools/opa/policies`) among it; then an operator's own
//! policies.
//! *Where it stands*: after `updatetoken`, which put both tokens there; before `begin` and whatever
//! else remembers or acts.
//! *On Close*: the same but for expiry, and without the operator's: what may be had no longer may
//! still be let go. A hop that names a connection instead of bringing its tokens proves itself, by
//! a token that holds now: it has just made it.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use nsm_identity::token;
use nsm_model::spiffe::SpiffeId;
use nsm_policy::{
    custom::Verdict,
    denial::{self, Denial},
    input::{Input, PathIds, Registration},
    proof::Proof,
    standard::Refused,
};

use super::updatepath::Named;
use crate::{Call, Caller, Code, Element, Error, Kind, Next, Tokens};

/// What is registered, for an operator's policies of registrations.
pub type Names = Arc<dyn Fn() -> PathIds + Send + Sync>;

/// See the module.
pub struct Authorize {
    tokens: Arc<dyn Tokens>,
    names: Option<Names>,
}

impl std::fmt::Debug for Authorize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorize")
    }
}

impl Authorize {
    /// The element.
    #[must_use]
    pub fn new(tokens: Arc<dyn Tokens>) -> Self {
        Self {
            tokens,
            names: None,
        }
    }

    /// The element of a registry.
    #[must_use]
    pub fn of_registry(tokens: Arc<dyn Tokens>, names: Names) -> Self {
        Self {
            tokens,
            names: Some(names),
        }
    }

    fn check<K: Kind>(
        &self,
        call: &Call,
        item: &K::Item,
        now: Option<SystemTime>,
    ) -> Result<(), Error> {
        let Some(caller) = &call.caller else {
            return Ok(());
        };
        let proof = Proof {
            own: &self.tokens.own_id(),
            peer: &caller.id,
            certificate: &caller.certificate,
            now,
            signatures: &*self.tokens,
        };
        let denied = |kind: denial::Kind, error: Error| {
            let does = if now.is_some() { "request" } else { "close" };
            let what = format!("{does} {} {}", K::NAME, K::id(item));
            Denial::new(kind, &caller.id, what, &error.message).tell();
            error
        };
        let path = K::path(call, item);
        let named = call.scratch.get::<Named>().filter(|_| now.is_none());
        let proved = match named {
            Some(Named(_)) => proof.of_neighbour(path, self.tokens.now()),
            None => proof.of_request(path),
        };
        proved.map_err(|refused| denied(kind(&refused), error(&refused)))?;
        match now {
            Some(_) => self
                .ask::<K>(call, caller, item)
                .map_err(|verdict| denied(denial::Kind::Policy, against(&caller.id, &verdict))),
            None => Ok(()),
        }
    }

    /// An operator's policies, over the left side of the path.
    fn ask<K: Kind>(&self, call: &Call, caller: &Caller, item: &K::Item) -> Result<(), Verdict> {
        let policies = self.tokens.policies().map(K::policies);
        let Some(policies) = policies.filter(|policies| !policies.is_empty()) else {
            return Ok(());
        };
        let mut path = K::path(call, item).clone();
        nsm_model::path::trim(&mut path);
        let first = path.path_segments.first();
        let first = first.and_then(|first| token::decode_unverified(&first.token).ok());
        let names = self.names.as_ref().map(|names| names());
        let registration = names.as_ref().map(|path_ids| Registration {
            id: first.as_ref().map_or("", |first| &first.sub),
            name: K::id(item),
            path_ids,
        });
        policies.check(&Input {
            path: &path,
            certificate: &caller.certificate,
            registration,
        })
    }
}

/// What is said of a policy's verdict: a denial, or a policy that needs mending.
pub(crate) fn against(peer: &SpiffeId, verdict: &Verdict) -> Error {
    let code = match verdict {
        Verdict::Denied(_) => Code::PermissionDenied,
        Verdict::Undecided { .. } => Code::Internal,
    };
    Error::new(code, format!("{peer}: {verdict}"))
}

/// A path that does not reach us is one kind of denial, tokens that prove nothing another.
fn kind(refused: &Refused) -> denial::Kind {
    match refused {
        Refused::NoCaller(_) | Refused::NoAnswerer(_) => denial::Kind::Path,
        Refused::Token { .. }
        | Refused::Chain { .. }
        | Refused::Signature { .. }
        | Refused::Subject { .. }
        | Refused::Audience { .. }
        | Refused::Own { .. } => denial::Kind::Token,
    }
}

/// A forged proof is no proof of who calls; a true one may still not be enough.
pub(crate) fn error(refused: &Refused) -> Error {
    let code = match refused {
        Refused::Signature { .. } => Code::Unauthenticated,
        Refused::Token { .. }
        | Refused::Chain { .. }
        | Refused::NoCaller(_)
        | Refused::NoAnswerer(_)
        | Refused::Subject { .. }
        | Refused::Audience { .. }
        | Refused::Own { .. } => Code::PermissionDenied,
    };
    Error::new(code, refused.to_string())
}

#[async_trait]
impl<K: Kind> Element<K> for Authorize {
    fn name(&self) -> &'static str {
        "authorize"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: K::Request,
        next: Next<K>,
    ) -> Result<K::Item, Error> {
        self.check::<K>(call, K::item(&request), Some(self.tokens.now()))?;
        next.request(call, request).await
    }

    async fn close(&self, call: &mut Call, item: K::Item, next: Next<K>) -> Result<(), Error> {
        self.check::<K>(call, &item, None)?;
        next.close(call, item).await
    }
}
