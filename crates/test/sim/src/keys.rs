//! Identities without cryptography: a certificate is a SPIFFE ID, a signature the same.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nsm_chain::{Call, Code, Error, Token, Tokens};
use nsm_identity::token::{Claims, TokenError, decode_unverified};
use nsm_model::spiffe::SpiffeId;
use nsm_policy::{roles::RoleSource, standard::Signatures};

use crate::clock::Clock;

/// How many checked tokens are remembered: all that live at once.
const REMEMBERED: usize = 4096;

/// A SPIFFE ID of the run's trust domain.
///
/// # Panics
/// The name is none of a path.
#[must_use]
pub fn spiffe(name: &str) -> SpiffeId {
    match format!("spiffe://nsm.test/{name}").parse() {
        Ok(id) => id,
        Err(error) => panic!("{name}: {error}"),
    }
}

/// The standard roles of the run's trust domain.
///
/// # Panics
/// Never: the domain is well formed.
#[must_use]
pub fn roles() -> RoleSource {
    match "nsm.test".parse() {
        Ok(domain) => RoleSource::standard(&domain),
        Err(error) => panic!("nsm.test: {error}"),
    }
}

/// Tokens that somebody has checked already: signer and claims. A run's processes share it, which
/// saves time and decides nothing.
pub type Checked = Arc<Mutex<BTreeMap<String, (Vec<u8>, Claims)>>>;

/// The keys of one process.
#[derive(Debug)]
pub struct Keys {
    id: SpiffeId,
    clock: Clock,
    life: Duration,
    issued: Mutex<BTreeMap<SpiffeId, Token>>,
    checked: Checked,
    /// Until when the certificate is good, where its agent is away.
    ends: Mutex<Option<SystemTime>>,
}

impl Keys {
    /// The keys of the process with this name, whose tokens live so long.
    #[must_use]
    pub fn new(name: &str, clock: Clock, life: Duration, checked: Checked) -> Arc<Self> {
        Arc::new(Self {
            id: spiffe(name),
            clock,
            life,
            issued: Mutex::default(),
            checked,
            ends: Mutex::default(),
        })
    }

    /// Its certificate is not renewed: it ends then. `None`: it is renewed again.
    pub fn end_at(&self, ends: Option<SystemTime>) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }

    /// Whether its certificate is good now.
    #[must_use]
    pub fn are_good(&self) -> bool {
        let ends = *self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.is_none_or(|ends| ends > self.clock.now())
    }

    fn make(&self, audience: &SpiffeId, expires: SystemTime) -> Token {
        let seconds = expires
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let claims = serde_json::json!({
            "sub": self.id.as_str(), "aud": [audience.as_str()], "exp": seconds,
        });
        let claims = claims.to_string();
        let parts = [r#"{"alg":"ES256","typ":"JWT"}"#, &claims, self.id.as_str()];
        Token {
            jwt: parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join("."),
            expires: UNIX_EPOCH + Duration::from_secs(seconds),
            left: None,
        }
    }
}

impl Tokens for Keys {
    fn own_id(&self) -> SpiffeId {
        self.id.clone()
    }

    /// As the real source: a token is used again while it has half its life left.
    fn issue(&self, _: &Call, audience: &SpiffeId) -> Result<Token, Error> {
        let now = self.now();
        if !self.are_good() {
            return Err(Error::new(Code::Unauthenticated, "the SVID has expired"));
        }
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |token: &&Token| {
            let left = token.expires.duration_since(now).unwrap_or_default();
            left >= self.life / 2 && left <= self.life
        };
        let token = match issued.get(audience).filter(fresh) {
            Some(token) => token.clone(),
            None => self.make(audience, now + self.life),
        };
        issued.insert(audience.clone(), token.clone());
        Ok(Token {
            left: token.expires.duration_since(now).ok(),
            ..token
        })
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

impl Signatures for Keys {
    fn verify(&self, jwt: &str, certificate: &[u8]) -> Result<Claims, TokenError> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((signer, claims)) = checked.get(jwt)
            && signer == certificate
        {
            return Ok(claims.clone());
        }
        let claims = decode_unverified(jwt)?;
        let signature = jwt.rsplit('.').next().unwrap_or_default();
        if URL_SAFE_NO_PAD
            .decode(signature)
            .is_ok_and(|signer| signer == certificate)
        {
            if checked.len() >= REMEMBERED {
                checked.clear();
            }
            checked.insert(jwt.to_owned(), (certificate.to_vec(), claims.clone()));
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
