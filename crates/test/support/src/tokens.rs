//! Tokens without keys, and the clock that they are measured by.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nsm_chain::{Call, Caller, Code, Descriptors, Error, Token, Tokens};
use nsm_identity::token::{Claims, TokenError, decode_unverified};
use nsm_model::spiffe::SpiffeId;
use nsm_policy::{roles::RoleSource, standard::Signatures};
use tokio::time::Instant;

/// How long a token lives.
pub const LIFE: Duration = Duration::from_secs(600);

/// When every test begins: seconds since 1970.
const START: Duration = Duration::from_secs(1_700_000_000);

/// A SPIFFE ID of the tests' trust domain.
#[must_use]
pub fn spiffe(name: &str) -> SpiffeId {
    format!("spiffe://nsm.test/{name}").parse().unwrap()
}

/// The standard roles of the tests' trust domain.
#[must_use]
pub fn roles() -> RoleSource {
    RoleSource::standard(&"nsm.test".parse().unwrap())
}

/// The runtime's clock as a wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    /// Now.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + START + self.0.elapsed()
    }
}

/// The keys of one process: its certificate is its SPIFFE ID, its signature the same.
#[derive(Debug)]
pub struct Keys {
    id: SpiffeId,
    clock: Clock,
    broken: AtomicBool,
}

impl Keys {
    /// The keys of the process with this name.
    #[must_use]
    pub fn new(name: &str, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            id: spiffe(name),
            clock,
            broken: AtomicBool::new(false),
        })
    }

    /// From now on no token can be made.
    pub fn break_signing(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    /// They can be made again.
    pub fn mend_signing(&self) {
        self.broken.store(false, Ordering::SeqCst);
    }
}

/// A token that `signer` signed, which may say anything.
#[must_use]
pub fn jwt(signer: &SpiffeId, sub: &SpiffeId, aud: &SpiffeId, expires: SystemTime) -> Token {
    let seconds = expires.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = serde_json::json!({ "sub": sub.as_str(), "aud": [aud.as_str()], "exp": seconds })
        .to_string();
    let parts = [r#"{"alg":"ES256","typ":"JWT"}"#, &claims, signer.as_str()];
    Token {
        jwt: parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join("."),
        expires,
        left: None,
    }
}

/// A peer with this identity, as the transport has proved it.
#[must_use]
pub fn caller(id: &SpiffeId, descriptors: Arc<dyn Descriptors>) -> Caller {
    Caller {
        id: id.clone(),
        certificate: id.as_str().as_bytes().into(),
        descriptors,
    }
}

impl Tokens for Keys {
    fn own_id(&self) -> SpiffeId {
        self.id.clone()
    }

    fn issue(&self, _: &Call, audience: &SpiffeId) -> Result<Token, Error> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Unavailable, "no identity to sign with"));
        }
        Ok(jwt(&self.id, &self.id, audience, self.now() + LIFE))
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

impl Signatures for Keys {
    fn verify(&self, jwt: &str, certificate: &[u8]) -> Result<Claims, TokenError> {
        let claims = decode_unverified(jwt)?;
        let signature = jwt.rsplit('.').next().unwrap_or_default();
        if URL_SAFE_NO_PAD
            .decode(signature)
            .is_ok_and(|signer| signer == certificate)
        {
            return Ok(claims);
        }
        let signer = String::from_utf8_lossy(certificate).into_owned();
        Err(match signer.parse() {
            Ok(signer) => TokenError::Signature {
                subject: claims.sub,
                signer,
            },
            Err(_) => TokenError::Certificate(signer),
        })
    }
}
