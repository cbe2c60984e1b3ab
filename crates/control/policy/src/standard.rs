//! The seven standard policies (sdk `pkg/tools/opa/policies`) as native code.
//!
//! Each is a function of what it looks at and says by a [`Refused`] what is wrong with it. They say
//! yes where upstream's files do, but that a token has to be what upstream signs: ES256, with
//! `sub`, `aud` and `exp`. What a server and a client require beyond them is in
//! [`proof`](crate::proof).

use std::time::SystemTime;

use nsm_api::connection::{Path, PathSegment};
use nsm_identity::{
    token::{self, Claims, TokenError},
    token_cache::VerifiedTokens,
};
use nsm_model::{path, spiffe::SpiffeId};

/// Why a path, a name or a watch is refused; a token is never part of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A token that cannot be read, or has expired.
    #[error("token of path segment {segment}: {error}")]
    Token {
        /// The segment's name.
        segment: String,
        /// What is wrong.
        error: TokenError,
    },
    /// A hop that the one before it did not mean.
    #[error(
        "path segment {segment}: the token before it, of {left}, is meant for {meant:?}, not for {sub}"
    )]
    Chain {
        /// The segment's name.
        segment: String,
        /// Who signed the token before.
        left: String,
        /// For whom that was.
        meant: Vec<String>,
        /// Who signed this one.
        sub: String,
    },
    /// The path does not say who called.
    #[error("{0}: no path segment of the caller before ours")]
    NoCaller(SpiffeId),
    /// The path does not say who answered.
    #[error("{0} answered without a path segment of its own after ours")]
    NoAnswerer(SpiffeId),
    /// The neighbour did not sign its token.
    #[error("{peer}: {error}")]
    Signature {
        /// The neighbour.
        peer: SpiffeId,
        /// What is wrong.
        error: TokenError,
    },
    /// A neighbour that speaks with the token of another.
    #[error("{peer} sent a token of {sub}")]
    Subject {
        /// The neighbour.
        peer: SpiffeId,
        /// Whose token that is.
        sub: String,
    },
    /// A token for somebody else, kept and sent again.
    #[error("the token of {peer} is meant for {meant:?}, not for {own}")]
    Audience {
        /// The neighbour.
        peer: SpiffeId,
        /// For whom it is.
        meant: Vec<String>,
        /// Who we are.
        own: SpiffeId,
    },
    /// An answer whose own segment is not ours.
    #[error("{peer} answered with a token of {sub} in the path segment of {own}")]
    Own {
        /// The neighbour.
        peer: SpiffeId,
        /// Whose token stands there.
        sub: String,
        /// Who we are.
        own: SpiffeId,
    },
}

/// Checks signatures: [`VerifiedTokens`] remembers, [`Uncached`] does not.
pub trait Signatures {
    /// The claims of a token that the owner of `certificate` (DER) signed in its own name; expiry
    /// is not looked at.
    ///
    /// # Errors
    /// Malformed, not ES256, or signed by somebody else.
    fn verify(&self, token: &str, certificate: &[u8]) -> Result<Claims, TokenError>;
}

/// Every signature is checked each time.
#[derive(Debug, Clone, Copy)]
pub struct Uncached;

impl Signatures for Uncached {
    fn verify(&self, token: &str, certificate: &[u8]) -> Result<Claims, TokenError> {
        token::verify(token, certificate)
    }
}

impl Signatures for VerifiedTokens {
    fn verify(&self, token: &str, certificate: &[u8]) -> Result<Claims, TokenError> {
        Self::verify(self, token, certificate).map(|claims| Claims::clone(&claims))
    }
}

/// Path segments whose tokens were read.
#[derive(Debug)]
pub struct Tokens<'a>(Vec<(&'a PathSegment, Claims)>);

/// `common/tokens_valid`: every segment's token is a JWT. No signature is looked at.
///
/// # Errors
/// The first that is not.
pub fn tokens_valid(segments: &[PathSegment]) -> Result<Tokens<'_>, Refused> {
    let read = segments.iter().map(|segment| {
        let claims = token::decode_es256(&segment.token);
        claims
            .map(|claims| (segment, claims))
            .map_err(|error| Refused::Token {
                segment: segment.name.clone(),
                error,
            })
    });
    read.collect::<Result<_, _>>().map(Tokens)
}

/// `common/tokens_chained`: each token's audience is the next one's subject.
///
/// # Errors
/// The first pair where it is not.
pub fn tokens_chained(tokens: &Tokens<'_>) -> Result<(), Refused> {
    for pair in tokens.0.windows(2) {
        let [(_, left), (segment, right)] = pair else {
            continue;
        };
        if !left.aud.contains(&right.sub) {
            return Err(Refused::Chain {
                segment: segment.name.clone(),
                left: left.sub.clone(),
                meant: left.aud.clone(),
                sub: right.sub.clone(),
            });
        }
    }
    Ok(())
}

/// `common/tokens_expired`: none has expired.
///
/// # Errors
/// The first that has.
pub fn tokens_expired(tokens: &Tokens<'_>, now: SystemTime) -> Result<(), Refused> {
    for (segment, claims) in &tokens.0 {
        claims.check_expiry(now).map_err(|error| Refused::Token {
            segment: segment.name.clone(),
            error,
        })?;
    }
    Ok(())
}

/// `server/prev_token_signed`: the segment before ours holds a token that the caller signed.
///
/// # Errors
/// There is none, or it is somebody else's.
pub fn prev_token_signed(
    path: &Path,
    caller: &SpiffeId,
    certificate: &[u8],
    signatures: &dyn Signatures,
) -> Result<Claims, Refused> {
    let previous = path::previous(path).filter(|_| path::own(path).is_some());
    let previous = previous.ok_or_else(|| Refused::NoCaller(caller.clone()))?;
    signed(previous, caller, certificate, signatures)
}

/// `client/next_token_signed`: the segment after ours holds a token that the server signed.
///
/// # Errors
/// There is none, or it is somebody else's.
pub fn next_token_signed(
    path: &Path,
    server: &SpiffeId,
    certificate: &[u8],
    signatures: &dyn Signatures,
) -> Result<Claims, Refused> {
    let next = path::next(path).ok_or_else(|| Refused::NoAnswerer(server.clone()))?;
    signed(next, server, certificate, signatures)
}

fn signed(
    segment: &PathSegment,
    peer: &SpiffeId,
    certificate: &[u8],
    signatures: &dyn Signatures,
) -> Result<Claims, Refused> {
    let claims = signatures.verify(&segment.token, certificate);
    claims.map_err(|error| Refused::Signature {
        peer: peer.clone(),
        error,
    })
}

/// `registry/client_allowed`: a name is free, or belongs to whoever registers it.
#[must_use]
pub fn client_allowed(owner: Option<&str>, registrant: Option<&str>) -> bool {
    owner.is_none_or(|owner| registrant == Some(owner))
}

/// `monitor/service_connection`: one of the selected connections is the caller's.
#[must_use]
pub fn service_connection<'a>(
    mut selected: impl Iterator<Item = &'a str>,
    is_callers: impl Fn(&str) -> bool,
) -> bool {
    selected.any(is_callers)
}

impl Tokens<'_> {
    /// The claims of the segment at `index`.
    #[must_use]
    pub fn claims(&self, index: usize) -> Option<&Claims> {
        self.0.get(index).map(|(_, claims)| claims)
    }
}
