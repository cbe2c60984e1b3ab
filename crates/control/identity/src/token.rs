//! The ES256 tokens of a connection's path: `sub` is the signer, `aud` the next hop, `exp` the end.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nsm_model::spiffe::SpiffeId;
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use serde::{Deserialize, Serialize};

use crate::svid::Leaf;

/// The longest token that is read: ours have about 350 bytes, SPIFFE IDs may have 2,048.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The header of upstream's tokens (sdk/pkg/tools/spiffejwt), byte for byte.
const HEADER: &str = r#"{"alg":"ES256","typ":"JWT"}"#;
/// The same in base64, as it stands in a token.
const ENCODED_HEADER: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9";

/// Why a token is refused. The token itself is never part of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The size limit.
    #[error("the token has {0} bytes, at most {MAX_TOKEN_BYTES} are read")]
    TooLong(usize),
    /// Not a JWT.
    #[error("the token is malformed: {0}")]
    Malformed(String),
    /// `none`, RSA and everything else that is not ES256.
    #[error("the token's algorithm is {0:?}; only ES256 is accepted")]
    Algorithm(String),
    /// The certificate's key cannot have signed it.
    #[error("the certificate of {0} has no EC P-256 key, so it cannot have signed an ES256 token")]
    KeyKind(SpiffeId),
    /// The certificate is not an SVID.
    #[error("the token cannot be verified: {0}")]
    Certificate(String),
    /// Wrong signature.
    #[error("the token of {subject:?} is not signed by {signer}")]
    Signature {
        /// What the token claims.
        subject: String,
        /// Whose certificate was tried.
        signer: SpiffeId,
    },
    /// A true signature over somebody else's name.
    #[error("{signer} signed a token for {subject:?}; a token speaks only for its signer")]
    Subject {
        /// What the token claims.
        subject: String,
        /// Who signed.
        signer: SpiffeId,
    },
    /// Out of date.
    #[error(
        "the token of {subject:?} expired at {at}, {ago} ago; refresh it, or set the clocks of both sides"
    )]
    Expired {
        /// Whose token.
        subject: String,
        /// RFC 3339.
        at: String,
        /// For people, in whole seconds.
        ago: String,
    },
    /// The signing key.
    #[error("not an EC P-256 key in PKCS#8: {0}")]
    Key(String),
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The SPIFFE ID of the signer.
    pub sub: String,
    /// For whom it is; written as an array, read as a string or an array.
    #[serde(deserialize_with = "audience", default)]
    pub aud: Vec<String>,
    /// Seconds since 1970.
    #[serde(deserialize_with = "seconds")]
    pub exp: u64,
}

impl Claims {
    /// The end of the token's life.
    pub fn expires(&self) -> SystemTime {
        UNIX_EPOCH
            .checked_add(Duration::from_secs(self.exp))
            .unwrap_or(UNIX_EPOCH)
    }

    /// Refuses a token that is out of date at `now`.
    pub fn check_expiry(&self, now: SystemTime) -> Result<(), TokenError> {
        let Ok(ago) = now.duration_since(self.expires()) else {
            return Ok(());
        };
        let ago = Duration::from_secs(ago.as_secs());
        Err(TokenError::Expired {
            subject: self.sub.clone(),
            at: crate::time::rfc3339(self.expires()),
            ago: humantime::format_duration(ago).to_string(),
        })
    }
}

/// Signs tokens with one P-256 key.
#[derive(Clone, Debug)]
pub struct Signer {
    key: Arc<EcdsaKeyPair>,
    random: SystemRandom,
}

impl Signer {
    /// From a PKCS#8 document.
    pub fn new(pkcs8: &[u8]) -> Result<Self, TokenError> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|error| TokenError::Key(error.to_string()))?;
        Ok(Self {
            key: Arc::new(key),
            random,
        })
    }

    /// The token of `sub` for `aud` until `exp` (cut to whole seconds), as wire-contract 1.9 has
    /// it: `aud` is an array, `exp` an integer, and there is no other claim.
    pub fn sign(
        &self,
        sub: &SpiffeId,
        aud: &SpiffeId,
        exp: SystemTime,
    ) -> Result<String, TokenError> {
        let claims = Claims {
            sub: sub.to_string(),
            aud: vec![aud.to_string()],
            exp: exp.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        };
        let claims = serde_json::to_vec(&claims)
            .map_err(|error| TokenError::Malformed(error.to_string()))?;
        self.sign_raw(HEADER, &claims)
    }

    /// Any header and claims; JWT SVIDs need `kid` and `iat`.
    pub(crate) fn sign_raw(&self, header: &str, claims: &[u8]) -> Result<String, TokenError> {
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self
            .key
            .sign(&self.random, token.as_bytes())
            .map_err(|_| TokenError::Key("the system's random source failed".to_owned()))?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }

    /// The uncompressed public point.
    pub fn public_point(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }
}

/// The claims of a token whose signature nobody looked at; a hint, never a proof.
pub fn decode_unverified(token: &str) -> Result<Claims, TokenError> {
    parse_claims(&split(token)?)
}

/// As [`decode_unverified`], of a token that could have been signed as upstream signs: ES256.
///
/// # Errors
/// It is malformed, or of another algorithm: `none` has no signer at all.
pub fn decode_es256(token: &str) -> Result<Claims, TokenError> {
    let parts = split(token)?;
    check_algorithm(&parts)?;
    parse_claims(&parts)
}

/// The claims of a token that the owner of `leaf` (DER) signed in its own name.
///
/// The expiry is not checked, since a Close with an expired token is allowed: see
/// [`Claims::check_expiry`].
pub fn verify(token: &str, leaf: &[u8]) -> Result<Claims, TokenError> {
    let parts = split(token)?;
    let claims = parse_claims(&parts)?;
    let leaf = Leaf::parse(leaf).map_err(|error| TokenError::Certificate(error.to_string()))?;
    let Some(point) = leaf.p256 else {
        return Err(TokenError::KeyKind(leaf.id));
    };
    if !verify_signature(&parts, &point)? {
        return Err(TokenError::Signature {
            subject: claims.sub,
            signer: leaf.id,
        });
    }
    if claims.sub != leaf.id.to_string() {
        return Err(TokenError::Subject {
            subject: claims.sub,
            signer: leaf.id,
        });
    }
    Ok(claims)
}

/// Whether the owner of `leaf` (DER) signed a token, whatever the token says.
///
/// # Errors
/// It is no ES256 token, or the certificate has no key that makes one.
pub fn is_signed_by(token: &str, leaf: &[u8]) -> Result<bool, TokenError> {
    let leaf = Leaf::parse(leaf).map_err(|error| TokenError::Certificate(error.to_string()))?;
    let Some(point) = leaf.p256 else {
        return Err(TokenError::KeyKind(leaf.id));
    };
    verify_signature(&split(token)?, &point)
}

/// The three parts of a compact JWT.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) header: &'a str,
    pub(crate) claims: &'a str,
    signature: &'a str,
    signed: &'a str,
}

pub(crate) fn split(token: &str) -> Result<Parts<'_>, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::TooLong(token.len()));
    }
    let malformed = || TokenError::Malformed("it has not three parts".to_owned());
    let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
    if claims.contains('.') {
        return Err(malformed());
    }
    Ok(Parts {
        header,
        claims,
        signature,
        signed,
    })
}

pub(crate) fn part<T: serde::de::DeserializeOwned>(
    part: &str,
    name: &str,
) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|error| TokenError::Malformed(format!("{name}: {error}")))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| TokenError::Malformed(format!("{name}: {error}")))
}

/// `Ok(false)` for a wrong signature; an error for everything that is no ES256 token.
pub(crate) fn verify_signature(parts: &Parts<'_>, point: &[u8]) -> Result<bool, TokenError> {
    check_algorithm(parts)?;
    let signature = URL_SAFE_NO_PAD
        .decode(parts.signature)
        .map_err(|error| TokenError::Malformed(format!("signature: {error}")))?;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    Ok(key.verify(parts.signed.as_bytes(), &signature).is_ok())
}

fn check_algorithm(parts: &Parts<'_>) -> Result<(), TokenError> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
    }
    // What all sign, ours and upstream's: no need to read it.
    if parts.header == ENCODED_HEADER {
        return Ok(());
    }
    let header: Header = part(parts.header, "header")?;
    if header.alg == "ES256" {
        return Ok(());
    }
    Err(TokenError::Algorithm(header.alg))
}

fn parse_claims(parts: &Parts<'_>) -> Result<Claims, TokenError> {
    part(parts.claims, "claims")
}

fn audience<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "aud must be a string or an array of strings")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// JSON has one kind of number; RFC 7519 allows a fraction, which some issuers write.
fn seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    let seconds = number.as_u64().or_else(|| {
        let fraction = number
            .as_f64()
            .filter(|n| (0.0..=9_007_199_254_740_992.0).contains(n))?;
        format!("{:.0}", fraction.trunc()).parse().ok()
    });
    seconds.ok_or_else(|| {
        serde::de::Error::custom(format!("exp must be a number of seconds, not {number}"))
    })
}
