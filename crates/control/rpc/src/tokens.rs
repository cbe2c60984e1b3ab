//! The tokens that this process sends and checks.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use nsm_chain::{Code, Error, Token};
use nsm_identity::{
    Identity, IdentitySource,
    token::{Claims, TokenError},
    token_cache::{DEFAULT_TOKEN_LIFE, TokenIssuer, VerifiedTokens},
};
use nsm_model::spiffe::SpiffeId;
use nsm_policy::custom::Custom;

/// Signs tokens with the current identity and checks those of others; both are remembered. Cheap
/// to clone: all clones share what they remember.
#[derive(Debug, Clone)]
pub struct TokenSource {
    source: IdentitySource,
    issuer: Arc<TokenIssuer>,
    verified: Arc<VerifiedTokens>,
    policies: Arc<Custom>,
}

impl TokenSource {
    /// Tokens of upstream's default lifetime, ten minutes; never longer than the SVID.
    #[must_use]
    pub fn new(source: IdentitySource) -> Self {
        Self::with_lifetime(source, DEFAULT_TOKEN_LIFE)
    }

    /// Tokens of another lifetime: a connection's lease is as long as its tokens.
    #[must_use]
    pub fn with_lifetime(source: IdentitySource, lifetime: Duration) -> Self {
        let issuer = Arc::new(TokenIssuer::new(lifetime));
        Self {
            source,
            issuer,
            verified: Arc::default(),
            policies: Arc::default(),
        }
    }

    /// The same, held besides against an operator's policies.
    #[must_use]
    pub fn with_policies(self, policies: Arc<Custom>) -> Self {
        Self { policies, ..self }
    }

    /// An operator's policies.
    #[must_use]
    pub fn policies(&self) -> &Custom {
        &self.policies
    }

    /// The identity that signs.
    #[must_use]
    pub fn source(&self) -> &IdentitySource {
        &self.source
    }

    /// A token of the identity of the moment; see [`TokenSource::token_of`].
    ///
    /// # Errors
    /// As there.
    pub fn token(
        &self,
        audience: &SpiffeId,
        peer_not_after: SystemTime,
        now: SystemTime,
    ) -> Result<Token, Error> {
        self.token_of(&self.source.current(), audience, peer_not_after, now)
    }

    /// A token for one peer with at least half its life left. Its `expires` is cut to the end of
    /// the peer's certificate, as upstream does (the `exp` inside is not).
    ///
    /// On a connection it must be the identity that was shown there: the peer checks the signature
    /// with the certificate of the handshake, and the own SVID may have rotated since.
    ///
    /// # Errors
    /// When the SVID has expired, or cannot sign.
    pub fn token_of(
        &self,
        identity: &Arc<Identity>,
        audience: &SpiffeId,
        peer_not_after: SystemTime,
        now: SystemTime,
    ) -> Result<Token, Error> {
        if identity.not_after() <= now {
            let message = format!(
                "the SVID of {} has expired, so no call can be made: does its agent still renew?",
                identity.id()
            );
            return Err(Error::new(Code::Unauthenticated, message));
        }
        let issued = self
            .issuer
            .token_for(identity, audience, peer_not_after, now);
        let issued = issued.map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        Ok(Token {
            jwt: issued.token.to_string(),
            expires: issued.expires,
            left: issued.expires.duration_since(now).ok(),
        })
    }

    /// The claims of a token that the owner of a certificate (DER) signed; expiry is not looked at.
    ///
    /// # Errors
    /// Malformed, not ES256, or signed by somebody else.
    pub fn verify(&self, jwt: &str, certificate: &[u8]) -> Result<Claims, TokenError> {
        let claims = self.verified.verify(jwt, certificate)?;
        Ok(Claims::clone(&claims))
    }
}
