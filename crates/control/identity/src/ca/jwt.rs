//! JWT SVIDs (SPIFFE JWT-SVID): one signing key in the root, its public part in the JWT bundle.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nsm_model::spiffe::SpiffeId;
use rcgen::KeyPair;
use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::CaError;
use crate::token::{self, Signer, TokenError};

/// SPIRE's default life of a JWT SVID; such a token cannot be revoked.
pub const JWT_LIFE: Duration = Duration::from_secs(300);

/// An uncompressed P-256 point: a tag, x and y.
const POINT_BYTES: usize = 65;

/// Why a JWT SVID is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// No ES256 token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No key for it.
    #[error("no key {kid:?} in the JWT bundle of {domain:?}")]
    UnknownKey {
        /// The header's key id.
        kid: String,
        /// The trust domain of the subject.
        domain: String,
    },
    /// Wrong signature.
    #[error("the signature is wrong")]
    Signature,
    /// For somebody else.
    #[error("the token is not for audience {0:?}")]
    Audience(String),
    /// The subject is no SPIFFE ID.
    #[error("the subject is not a SPIFFE ID: {0}")]
    Subject(String),
}

/// The key that signs JWT SVIDs.
#[derive(Debug)]
pub(crate) struct JwtKey {
    signer: Signer,
    kid: String,
}

impl JwtKey {
    pub(crate) fn new(key: &KeyPair) -> Result<Self, CaError> {
        let signer = Signer::new(key.serialized_der()).map_err(|error| CaError::BadFile {
            name: "jwt.key",
            reason: error.to_string(),
        })?;
        let digest = digest::digest(&digest::SHA256, signer.public_point());
        // 16 bytes are enough to tell keys apart.
        let kid = URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]);
        Ok(Self { signer, kid })
    }

    /// The JWK set of this key (RFC 7517; SPIFFE JWT-SVID, section 6.1).
    pub(crate) fn jwks(&self) -> Vec<u8> {
        let point = self.signer.public_point();
        let half = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        let key = json!({
            "kty": "EC", "use": "jwt-svid", "alg": "ES256", "crv": "P-256", "kid": self.kid,
            "x": half(1..33), "y": half(33..POINT_BYTES),
        });
        json!({ "keys": [key] }).to_string().into_bytes()
    }

    /// A JWT SVID for `id`, valid for [`JWT_LIFE`].
    pub(crate) fn mint(
        &self,
        id: &SpiffeId,
        audience: &[String],
        now: SystemTime,
    ) -> Result<String, CaError> {
        let seconds = |time: SystemTime| {
            time.duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs()
        };
        let header = json!({ "alg": "ES256", "kid": self.kid, "typ": "JWT" }).to_string();
        let claims = json!({
            "sub": id.as_str(), "aud": audience, "iat": seconds(now), "exp": seconds(now + JWT_LIFE),
        });
        self.signer
            .sign_raw(&header, claims.to_string().as_bytes())
            .map_err(|error| CaError::BadFile {
                name: "jwt.key",
                reason: error.to_string(),
            })
    }
}

#[derive(Deserialize)]
struct Header {
    kid: String,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Serialize, Deserialize)]
struct Jwk {
    #[serde(default)]
    kid: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

/// Verifies a JWT SVID for `audience`; `bundle` finds the JWK set of a trust domain.
pub(crate) fn validate(
    svid: &str,
    audience: &str,
    now: SystemTime,
    bundle: impl FnOnce(&SpiffeId) -> Option<Vec<u8>>,
) -> Result<(SpiffeId, Value), JwtError> {
    let parts = token::split(svid)?;
    let claims = token::decode_unverified(svid)?;
    let id: SpiffeId = claims
        .sub
        .parse()
        .map_err(|error: nsm_model::spiffe::SpiffeError| JwtError::Subject(error.to_string()))?;
    let kid = token::part::<Header>(parts.header, "header")?.kid;
    let point = bundle(&id).and_then(|jwks| find_point(&jwks, &kid));
    let point = point.ok_or_else(|| JwtError::UnknownKey {
        kid: kid.clone(),
        domain: id.trust_domain().to_string(),
    })?;
    if !token::verify_signature(&parts, &point)? {
        return Err(JwtError::Signature);
    }
    claims.check_expiry(now)?;
    if !claims.aud.iter().any(|aud| aud == audience) {
        return Err(JwtError::Audience(audience.to_owned()));
    }
    Ok((id, token::part(parts.claims, "claims")?))
}

fn find_point(jwks: &[u8], kid: &str) -> Option<Vec<u8>> {
    let jwks: Jwks = serde_json::from_slice(jwks).ok()?;
    let key = jwks
        .keys
        .into_iter()
        .find(|key| key.kid == kid && key.crv == "P-256")?;
    let mut point = vec![4];
    point.extend(URL_SAFE_NO_PAD.decode(key.x).ok()?);
    point.extend(URL_SAFE_NO_PAD.decode(key.y).ok()?);
    (point.len() == POINT_BYTES).then_some(point)
}
