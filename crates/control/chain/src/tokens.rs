//! Tokens, an operator's policies and the clock, as a role gets them.

use std::time::SystemTime;

use nsm_model::spiffe::SpiffeId;
use nsm_policy::{custom::Custom, standard::Signatures};

use crate::{Call, Error, Token};

/// Makes and checks tokens as this process, and tells what they are measured by.
pub trait Tokens: Signatures + Send + Sync {
    /// Who this process is.
    fn own_id(&self) -> SpiffeId;

    /// A token of ours for that peer, who made this call: where it came over a connection, signed
    /// by the key that was shown there, since the peer checks it with that one.
    ///
    /// # Errors
    /// No identity to sign with, or an expired one.
    fn issue(&self, call: &Call, audience: &SpiffeId) -> Result<Token, Error>;

    /// What an operator requires besides; none where there is nothing.
    fn policies(&self) -> Option<&Custom> {
        None
    }

    /// The wall clock.
    fn now(&self) -> SystemTime;
}
