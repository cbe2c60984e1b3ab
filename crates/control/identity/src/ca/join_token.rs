//! One-time tokens by which a node joins; the root keeps only their tags.

use std::{
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest, hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::{CaError, dir::SecretDir};

/// A token that nobody used within this time is void.
pub const JOIN_TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// More outstanding tokens than nodes that join within an hour point at a runaway script.
const MAX_OUTSTANDING: usize = 4096;

const FILE: &str = "join-tokens.json";
const PREFIX: &str = "nsm-join";

/// The SHA-256 of a root certificate: how a node knows its authority.
pub type Fingerprint = [u8; 32];

/// The fingerprint of a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    let digest = digest::digest(&digest::SHA256, certificate);
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest.as_ref());
    fingerprint
}

/// What an operator carries to a new node: a secret and the root's fingerprint.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub(crate) secret: [u8; 32],
    /// Of the root certificate, so that the node cannot be caught by a false authority.
    pub fingerprint: Fingerprint,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(hidden)")
    }
}

impl JoinToken {
    /// The text to hand over; it is a secret until it is used.
    pub fn reveal(&self) -> String {
        let encode = |bytes: &[u8; 32]| URL_SAFE_NO_PAD.encode(bytes);
        format!(
            "{PREFIX}.{}.{}",
            encode(&self.secret),
            encode(&self.fingerprint)
        )
    }
}

/// The text is not a join token; it is not repeated, since it may be nearly one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the join token must look like {PREFIX}.<secret>.<fingerprint>; make one with `nsm ca token NODE`"
)]
pub struct JoinTokenError;

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let decode =
            |text: &str| -> Option<[u8; 32]> { URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok() };
        let parts: Vec<_> = text.trim().split('.').collect();
        match parts[..] {
            [PREFIX, secret, fingerprint] => decode(secret)
                .zip(decode(fingerprint))
                .map(|(secret, fingerprint)| Self {
                    secret,
                    fingerprint,
                })
                .ok_or(JoinTokenError),
            _ => Err(JoinTokenError),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outstanding {
    node: String,
    /// HMAC-SHA-256 of the node's name under the secret, base64: proves the secret and does not
    /// tell it.
    tag: String,
    /// Seconds since 1970.
    expires: u64,
}

/// The outstanding tokens, in a file that several processes of the root may change, or in memory.
#[derive(Debug)]
pub(crate) enum JoinTokens {
    Memory(Mutex<String>),
    Dir(SecretDir),
}

impl JoinTokens {
    pub(crate) fn memory() -> Self {
        Self::Memory(Mutex::new(String::new()))
    }

    /// A new token for `node`.
    pub(crate) fn create(
        &self,
        node: &str,
        root: Fingerprint,
        now: SystemTime,
    ) -> Result<JoinToken, CaError> {
        let mut secret = [0; 32];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| CaError::Random)?;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), node.as_bytes());
        let outstanding = Outstanding {
            node: node.to_owned(),
            tag: URL_SAFE_NO_PAD.encode(tag),
            expires: seconds(now + JOIN_TOKEN_LIFE),
        };
        self.update(now, |all| {
            if all.len() >= MAX_OUTSTANDING {
                return Err(CaError::TooManyTokens(MAX_OUTSTANDING));
            }
            all.push(outstanding);
            Ok(())
        })?;
        Ok(JoinToken {
            secret,
            fingerprint: root,
        })
    }

    /// Uses a token up; the same error for unknown, used, expired and another node's.
    pub(crate) fn redeem(
        &self,
        node: &str,
        token: &JoinToken,
        now: SystemTime,
    ) -> Result<(), CaError> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &token.secret);
        self.update(now, |all| {
            let found = all.iter().position(|outstanding| {
                let tag = URL_SAFE_NO_PAD.decode(&outstanding.tag).unwrap_or_default();
                // ring compares in constant time.
                outstanding.node == node && hmac::verify(&key, node.as_bytes(), &tag).is_ok()
            });
            let found = found.ok_or_else(|| CaError::TokenRefused {
                node: node.to_owned(),
            })?;
            all.swap_remove(found);
            Ok(())
        })
    }

    fn update<R>(
        &self,
        now: SystemTime,
        change: impl FnOnce(&mut Vec<Outstanding>) -> Result<R, CaError>,
    ) -> Result<R, CaError> {
        match self {
            Self::Memory(text) => {
                let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                let (result, new) = changed(text.as_bytes(), now, change)?;
                *text = new;
                Ok(result)
            }
            Self::Dir(dir) => {
                let _lock = dir.lock()?;
                let old = dir.read(FILE)?.unwrap_or_default();
                let (result, new) = changed(&old, now, change)?;
                dir.write(FILE, new.as_bytes())?;
                Ok(result)
            }
        }
    }
}

pub(crate) fn changed<R>(
    old: &[u8],
    now: SystemTime,
    change: impl FnOnce(&mut Vec<Outstanding>) -> Result<R, CaError>,
) -> Result<(R, String), CaError> {
    let broken = |error: serde_json::Error| CaError::BadFile {
        name: FILE,
        reason: error.to_string(),
    };
    let mut all: Vec<Outstanding> = if old.is_empty() {
        Vec::new()
    } else {
        serde_json::from_slice(old).map_err(broken)?
    };
    all.retain(|outstanding| outstanding.expires > seconds(now));
    let result = change(&mut all)?;
    Ok((result, serde_json::to_string_pretty(&all).map_err(broken)?))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_once_and_only_its_node_and_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca");
        for tokens in [
            JoinTokens::memory(),
            JoinTokens::Dir(SecretDir::open(&path).unwrap()),
        ] {
            let now = SystemTime::now();
            let late = now + JOIN_TOKEN_LIFE + Duration::from_secs(1);
            let token = tokens.create("worker-1", [7; 32], now).unwrap();
            let token: JoinToken = token.reveal().parse().unwrap();
            assert_eq!(token.fingerprint, [7; 32]);
            let mut forged = token.clone();
            forged.secret[31] ^= 1;
            tokens.redeem("worker-2", &token, now).unwrap_err();
            tokens.redeem("worker-1", &forged, now).unwrap_err();
            tokens.redeem("worker-1", &token, now).unwrap();
            tokens.redeem("worker-1", &token, now).unwrap_err();
            let token = tokens.create("worker-1", [7; 32], now).unwrap();
            let error = tokens.redeem("worker-1", &token, late).unwrap_err();
            assert!(
                error.to_string().contains("unknown, used, expired"),
                "{error}"
            );
        }
        let kept = std::fs::read_to_string(path.join(FILE)).unwrap();
        assert!(!kept.contains("nsm-join"), "{kept}");
    }

    #[test]
    fn is_not_printed() {
        let token = JoinToken {
            secret: [1; 32],
            fingerprint: [2; 32],
        };
        assert_eq!(format!("{token:?}"), "JoinToken(hidden)");
        for text in ["", "nsm-join.a.b", "x.AQEB.AgIC", &token.reveal()[1..]] {
            text.parse::<JoinToken>().unwrap_err();
        }
    }
}
