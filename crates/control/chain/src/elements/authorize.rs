//! `authorize`: a caller must prove each step of the path as far as keys are known.
//!
//! *What it does*: the standard server policies (sdk `pkg/tools/opa/policies`) as native code, over
//! the path's segments up to our own: every token is a JWT, none has expired, each one's audience
//! is the next one's subject, and the previous one is the caller's own, signed with the key of the
//! certificate that it showed, meant for us.
//! *Where it stands*: after `updatetoken`, which put both tokens there; before `begin` and whatever
//! else remembers or acts.
//! *On Close*: the same but for expiry: what has expired may still be let go.

use std::sync::Arc;

use async_trait::async_trait;
use nsm_api::connection::Path;
use nsm_identity::token::{self, Claims};
use nsm_policy::denial::{self, Denial};

use crate::{Call, Caller, Code, Element, Error, Kind, Next, Tokens};

/// See the module.
pub struct Authorize(Arc<dyn Tokens>);

impl std::fmt::Debug for Authorize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorize")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expiry {
    Checked,
    Ignored,
}

impl Authorize {
    /// The element.
    #[must_use]
    pub fn new(tokens: Arc<dyn Tokens>) -> Self {
        Self(tokens)
    }

    fn check<K: Kind>(&self, call: &Call, item: &K::Item, expiry: Expiry) -> Result<(), Error> {
        let Some(caller) = &call.caller else {
            return Ok(());
        };
        let verdict = self.verdict(caller, K::path(call, item), expiry);
        if let Err(error) = &verdict {
            let what = format!("{} {}", K::NAME, K::id(item));
            Denial::new(denial::Kind::Token, &caller.id, what, &error.message).tell();
        }
        verdict
    }

    fn verdict(&self, caller: &Caller, path: &Path, expiry: Expiry) -> Result<(), Error> {
        let own = path.index as usize;
        let denied = |message: String| Error::new(Code::PermissionDenied, message);
        let Some(previous) = own.checked_sub(1).and_then(|at| path.path_segments.get(at)) else {
            return Err(denied(format!(
                "{}: no path segment of the caller before ours",
                caller.id
            )));
        };
        let proved = self.0.verify(&previous.token, &caller.certificate);
        let proved = proved.map_err(|error| Error {
            message: format!("{}: {}", caller.id, error.message),
            ..error
        })?;
        if proved.sub != caller.id.as_str() {
            return Err(denied(format!(
                "{} sent a token of {}",
                caller.id, proved.sub
            )));
        }
        if !proved.aud.iter().any(|aud| aud == self.0.own_id().as_str()) {
            return Err(denied(format!(
                "the token of {} is meant for {:?}, not for {}",
                caller.id,
                proved.aud,
                self.0.own_id()
            )));
        }
        let mut left: Option<Claims> = None;
        for segment in path.path_segments.iter().take(own + 1) {
            let claims = token::decode_unverified(&segment.token).map_err(|error| {
                denied(format!("token of path segment {}: {error}", segment.name))
            })?;
            if expiry == Expiry::Checked {
                claims.check_expiry(self.0.now()).map_err(|error| {
                    denied(format!("token of path segment {}: {error}", segment.name))
                })?;
            }
            if let Some(left) = left.filter(|left| !left.aud.contains(&claims.sub)) {
                let message = format!(
                    "path segment {}: the token before it, of {}, is meant for {:?}, not for {}",
                    segment.name, left.sub, left.aud, claims.sub
                );
                return Err(denied(message));
            }
            left = Some(claims);
        }
        Ok(())
    }
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
        self.check::<K>(call, K::item(&request), Expiry::Checked)?;
        next.request(call, request).await
    }

    async fn close(&self, call: &mut Call, item: K::Item, next: Next<K>) -> Result<(), Error> {
        self.check::<K>(call, &item, Expiry::Ignored)?;
        next.close(call, item).await
    }
}
