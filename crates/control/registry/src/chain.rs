//! The role as two lists: what a Register and an Unregister pass through, top to bottom.
//!
//! Upstream's `grpcmetadata` (the path beside the call) is done by the adapters of `nsm-rpc`, its
//! `metadata` (what elements remember) is the store that `begin` gives to each item.

use std::{sync::Arc, time::Duration};

use nsm_chain::{
    Chain, Endpoints, Services, Tasks, Tokens,
    begin::Begin,
    elements::{Authorize, UpdateToken},
};
use nsm_policy::roles::RoleSource;

use crate::{Record, Registry};

mod expire;
mod memory;
mod relay;
mod setpayload;
mod setregistrationtime;
mod updatepath;

pub use expire::Expire;
pub use memory::Memory;
pub use relay::{Asker, Relay, Relays};
pub use setpayload::{DEFAULT_PAYLOAD, SetPayload};
pub use setregistrationtime::SetRegistrationTime;
pub use updatepath::{Hops, UpdatePath};

/// How long an endpoint lives that is not registered again: upstream's default. Its clients
/// refresh after two thirds of it.
pub const LIFETIME: Duration = Duration::from_secs(60);

/// What the lists are made of.
#[derive(Clone)]
pub struct Parts {
    /// Where records go.
    pub registry: Registry,
    /// Own identity, tokens and their checks.
    pub tokens: Arc<dyn Tokens>,
    /// Owns timers, and work whose caller gave up.
    pub tasks: Tasks,
    /// The longest life of an endpoint between two registrations.
    pub lifetime: Duration,
    /// Who may register what, and for others.
    pub roles: RoleSource,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Parts({:?}, lifetime {:?})",
            self.registry, self.lifetime
        )
    }
}

/// The list for network services.
#[must_use]
pub fn services(parts: &Parts) -> Chain<Services> {
    Chain::new(vec![
        // Who stands where on the path: all after it speak of the hops that it names.
        Box::new(UpdatePath::new(Arc::clone(&parts.tokens))),
        // The caller's token and ours: what authorize checks.
        Box::new(UpdateToken::new(Arc::clone(&parts.tokens))),
        // Nothing below sees a caller that did not prove the path.
        Box::new(authorize::<Services>(parts)),
        // Nor one that speaks for others without being a manager, or may not offer it.
        Box::new(Relay::new(parts.roles.clone(), Relays::Managers)),
        // Before the rules compare payloads.
        Box::new(SetPayload::new(parts.registry.clone())),
        // Rules, store, index.
        Box::new(Memory::new(parts.registry.clone())),
    ])
}

/// The list for endpoints.
#[must_use]
pub fn endpoints(parts: &Parts) -> Chain<Endpoints> {
    Chain::new(vec![
        // As for services.
        Box::new(UpdatePath::new(Arc::clone(&parts.tokens))),
        Box::new(UpdateToken::new(Arc::clone(&parts.tokens))),
        Box::new(authorize::<Endpoints>(parts)),
        Box::new(Relay::new(parts.roles.clone(), Relays::Managers)),
        // One at a time for each name; below it a name's timers live.
        Box::new(Begin::new(parts.tasks.clone())),
        // Before the record is stored, which it completes.
        Box::new(SetRegistrationTime::new(parts.registry.clone())),
        // The same; and once it is stored, its name is let go in time.
        Box::new(Expire::new(
            parts.registry.clone(),
            parts.tasks.clone(),
            parts.lifetime,
        )),
        // Rules, store, index.
        Box::new(Memory::new(parts.registry.clone())),
    ])
}

fn authorize<R: Record>(parts: &Parts) -> Authorize {
    Authorize::of_registry(Arc::clone(&parts.tokens), parts.registry.names::<R>())
}
