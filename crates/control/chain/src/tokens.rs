//! Tokens, an operator's policies and the clock, as a role gets them.

use std::time::SystemTime;

use nsm_model::spiffe::SpiffeId;
use nsm_policy::{custom::Custom, standard::Signatures};

use crate::{Error, Token};

/// Makes and checks tokens as this process, and tells what they are measured by.
pub trait Tokens: Signatures + Send + Sync {
    /// Who this process is.
    fn own_id(&self) -> SpiffeId;

    /// A token of ours for that peer.
    ///
    /// # Errors
    /// No identity to sign with, or an expired one.
    fn issue(&self, audience: &SpiffeId) -> Result<Token, Error>;

    /// What an operator requires besides; none where there is nothing.
    fn policies(&self) -> Option<&Custom> {
        None
    }

    /// The wall clock.
    fn now(&self) -> SystemTime;
}
