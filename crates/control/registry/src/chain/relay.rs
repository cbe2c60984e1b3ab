//! `relay`: who may register for others.
//!
//! *What it does*: a caller that is not the maker of what it registers must be one that may speak
//! for others (a manager), since the tokens before its own are not signed with a key known here.
//! Upstream has no such check: there any peer can claim any owner.
//! *Where it stands*: after `authorize`, before anything is stored.
//! *On Close*: the same.

use async_trait::async_trait;
use nsm_chain::{Call, Code, Element, Error, Kind, Next};

use super::{Hops, MayRelay};

/// See the module.
pub struct Relay(MayRelay);

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Relay")
    }
}

impl Relay {
    /// The element.
    #[must_use]
    pub fn new(may_relay: MayRelay) -> Self {
        Self(may_relay)
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let (Some(caller), Some(Hops(hops))) = (&call.caller, call.scratch.get()) else {
            return Ok(());
        };
        let maker = hops.first().map_or("", String::as_str);
        if maker == caller.id.as_str() || (self.0)(&caller.id) {
            return Ok(());
        }
        let message = format!(
            "{} may not register for {maker}: only managers register for others",
            caller.id
        );
        Err(Error::new(Code::PermissionDenied, message))
    }
}

#[async_trait]
impl<K: Kind> Element<K> for Relay {
    fn name(&self) -> &'static str {
        "relay"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: K::Request,
        next: Next<K>,
    ) -> Result<K::Item, Error> {
        self.check(call)?;
        next.request(call, request).await
    }

    async fn close(&self, call: &mut Call, item: K::Item, next: Next<K>) -> Result<(), Error> {
        self.check(call)?;
        next.close(call, item).await
    }
}
