//! Tokens, an operator's policies and the clock, as a role gets them.

use std::time::{Duration, SystemTime};

use nsm_model::spiffe::SpiffeId;
use nsm_policy::{custom::Custom, standard::Signatures};

use tokio::time::{Instant, sleep};

use crate::{Call, Error, Token};

/// How often it is looked whether we have an identity, where a stream says something for us: sooner
/// than a peer takes us for somebody who holds nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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

    /// Whether we have no identity to say anything with.
    fn is_mute(&self) -> bool {
        let call = Call::local(Instant::now());
        self.issue(&call, &self.own_id()).is_err()
    }

    /// What an operator requires besides; none where there is nothing.
    fn policies(&self) -> Option<&Custom> {
        None
    }

    /// The wall clock.
    fn now(&self) -> SystemTime;
}

/// Waits until we have no identity: a watch without a word would then disown whatever the peer has
/// of ours.
pub(crate) async fn muted(tokens: &dyn Tokens) {
    while !tokens.is_mute() {
        sleep(LOOK_EVERY).await;
    }
}
