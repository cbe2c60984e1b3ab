//! The tokens that this process sends: signed for one peer, kept until half their life is over.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use nsm_chain::{Code, Error, Token};
use nsm_identity::{Identity, IdentitySource};
use nsm_model::spiffe::SpiffeId;

/// How long a token lives at most (upstream's MaxTokenLifetime); never longer than the SVID.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(600);

/// The most peers whose tokens are kept: beyond it all are signed again, 15 us each.
const MAX_CACHED: usize = 4_096;

/// Signs tokens with the current identity; cheap to clone, and one cache is shared by all clones.
#[derive(Debug, Clone)]
pub struct TokenSource(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: IdentitySource,
    lifetime: Duration,
    cache: Mutex<BTreeMap<SpiffeId, Cached>>,
}

#[derive(Debug)]
struct Cached {
    token: Token,
    signed: SystemTime,
    identity: Arc<Identity>,
}

impl TokenSource {
    /// Tokens of [`TOKEN_LIFETIME`].
    #[must_use]
    pub fn new(source: IdentitySource) -> Self {
        Self::with_lifetime(source, TOKEN_LIFETIME)
    }

    /// Tokens of another lifetime: a connection's lease is as long as its tokens.
    #[must_use]
    pub fn with_lifetime(source: IdentitySource, lifetime: Duration) -> Self {
        Self(Arc::new(Inner {
            source,
            lifetime,
            cache: Mutex::default(),
        }))
    }

    /// The identity that signs.
    #[must_use]
    pub fn source(&self) -> &IdentitySource {
        &self.0.source
    }

    /// A token for one peer, with at least half its life left at `now`.
    ///
    /// # Errors
    /// When the own SVID has expired, or the system has no random numbers.
    pub fn token(&self, audience: &SpiffeId, now: SystemTime) -> Result<Token, Error> {
        let identity = self.0.source.current();
        let mut cache = self.0.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = cache.get(audience)
            && Arc::ptr_eq(&cached.identity, &identity)
            && cached.fresh(now)
        {
            return Ok(cached.token.clone());
        }
        let expires = identity.not_after().min(now + self.0.lifetime);
        if expires <= now {
            let message = format!(
                "the SVID of {} has expired, so no call can be made: does its agent still renew?",
                identity.id()
            );
            return Err(Error::new(Code::Unauthenticated, message));
        }
        let jwt = identity
            .signer()
            .sign(identity.id(), audience, expires)
            .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        let token = Token { jwt, expires };
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(
            audience.clone(),
            Cached {
                token: token.clone(),
                signed: now,
                identity,
            },
        );
        Ok(token)
    }
}

impl Cached {
    fn fresh(&self, now: SystemTime) -> bool {
        let life = self
            .token
            .expires
            .duration_since(self.signed)
            .unwrap_or_default();
        now >= self.signed && now < self.signed + life / 2
    }
}
