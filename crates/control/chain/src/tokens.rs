//! Tokens and the clock, as a role gets them.

use std::time::SystemTime;

use nsm_identity::token::Claims;
use nsm_model::spiffe::SpiffeId;

use crate::{Error, Token};

/// Makes and checks tokens as this process, and tells the time they are measured by.
pub trait Tokens: Send + Sync {
    /// Who this process is.
    fn own_id(&self) -> SpiffeId;

    /// A token of ours for that peer.
    ///
    /// # Errors
    /// No identity to sign with, or an expired one.
    fn issue(&self, audience: &SpiffeId) -> Result<Token, Error>;

    /// Reads a token's claims and checks its ES256 signature against a leaf certificate (DER).
    ///
    /// # Errors
    /// Unauthenticated: malformed, not ES256, or signed by somebody else.
    fn verify(&self, jwt: &str, certificate: &[u8]) -> Result<Claims, Error>;

    /// The wall clock.
    fn now(&self) -> SystemTime;
}
