//! Who must answer where a call goes to.

use std::{fmt, sync::Arc};

use nsm_model::spiffe::SpiffeId;
use nsm_policy::{
    denial::Denial,
    roles::{Role, RoleSource, answers},
};

use crate::{Blame, Error};

type Check = dyn Fn(&SpiffeId) -> Result<(), Denial> + Send + Sync;

/// Decides about a peer whose handshake is done, before anything is sent to it; cheap to clone.
#[derive(Clone)]
pub struct Expected(Arc<Check>);

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Expected")
    }
}

impl Expected {
    /// Whoever the function accepts.
    pub fn new(check: impl Fn(&SpiffeId) -> Result<(), Denial> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    /// Whoever holds one of these roles at the time.
    #[must_use]
    pub fn role(roles: &RoleSource, wanted: &'static [Role]) -> Self {
        let roles = roles.clone();
        Self::new(move |peer| answers(&roles.current(), wanted, peer))
    }

    /// Refuses a peer that is somebody else, and tells of it.
    ///
    /// # Errors
    /// `PermissionDenied`, to the next hop's blame: nobody further on was asked.
    pub fn check(&self, peer: &SpiffeId) -> Result<(), Error> {
        (self.0)(peer).map_err(|denial| Error {
            blame: Blame::NextHop,
            ..Error::denied(&denial)
        })
    }
}
