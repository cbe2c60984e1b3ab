//! Tokens without keys, and a transport without descriptors.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nsm_chain::{Call, Code, Descriptors, Error, Token, Tokens};
use nsm_identity::token::{Claims, TokenError, decode_unverified};
use nsm_model::{spiffe::SpiffeId, url::InodeUrl};
use nsm_policy::standard::Signatures;
use nsm_registry::Clock as _;
use tokio::time::Instant;

use super::Manual;

/// Who the registry is.
pub(crate) const REGISTRY: &str = "spiffe://nsm/registry";

/// Tokens whose signature is the name of the certificate that would verify it.
pub(crate) struct Fake(pub(crate) Manual);

pub(crate) fn jwt(sub: &str, aud: &str, expires: SystemTime) -> Token {
    let seconds = expires
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = serde_json::json!({ "sub": sub, "aud": [aud], "exp": seconds }).to_string();
    let parts =
        [r#"{"alg":"ES256","typ":"JWT"}"#, &claims, sub].map(|part| URL_SAFE_NO_PAD.encode(part));
    Token {
        jwt: parts.join("."),
        expires,
        left: None,
    }
}

impl Tokens for Fake {
    fn own_id(&self) -> SpiffeId {
        REGISTRY.parse().unwrap()
    }

    fn issue(&self, _: &Call, audience: &SpiffeId) -> Result<Token, Error> {
        Ok(jwt(
            REGISTRY,
            audience.as_str(),
            self.now() + Duration::from_secs(600),
        ))
    }

    fn now(&self) -> SystemTime {
        self.0.now()
    }
}

impl Signatures for Fake {
    fn verify(&self, jwt: &str, certificate: &[u8]) -> Result<Claims, TokenError> {
        let claims = decode_unverified(jwt)?;
        if claims.sub.as_bytes() == certificate {
            return Ok(claims);
        }
        Err(TokenError::Certificate(
            "signed by somebody else".to_owned(),
        ))
    }
}

pub(crate) struct NoDescriptors;

#[async_trait::async_trait]
impl Descriptors for NoDescriptors {
    fn send(&self, _: std::os::fd::BorrowedFd<'_>) -> Result<(), Error> {
        Err(Error::new(Code::Unimplemented, "no descriptors here"))
    }

    async fn receive(&self, _: InodeUrl, _: Instant) -> Result<std::os::fd::OwnedFd, Error> {
        Err(Error::new(Code::Unimplemented, "no descriptors here"))
    }
}
