//! Tokens made and tokens checked, remembered: a signature costs 15 microseconds, a verification
//! 50.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nsm_model::spiffe::SpiffeId;
use ring::digest;

use crate::{
    Identity,
    token::{self, Claims, TokenError},
};

/// Upstream's default for the life of a token (`NSM_MAX_TOKEN_LIFETIME`).
pub const DEFAULT_TOKEN_LIFE: Duration = Duration::from_secs(600);

/// A manager talks with the workloads of its node and the managers of others: some hundreds of
/// peers.
const MAX_PEERS: usize = 4096;

/// Per generation, of which there are two: the tokens of that many connections are checked once.
const MAX_VERIFIED: usize = 8192;

/// A token for one peer.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// The compact JWT.
    pub token: Arc<str>,
    /// `exp`, cut to the end of the peer's certificate; goes into the path and the metadata.
    pub expires: SystemTime,
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuedToken(expires {:?})", self.expires)
    }
}

/// The tokens that this process hands out, one per peer until half of its life.
#[derive(Debug)]
pub struct TokenIssuer {
    life: Duration,
    issued: Mutex<BTreeMap<SpiffeId, Issued>>,
}

struct Issued {
    by: Arc<Identity>,
    token: Arc<str>,
    exp: SystemTime,
    renew: SystemTime,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issued(expires {:?})", self.exp)
    }
}

impl TokenIssuer {
    /// Signs for at most `life`.
    pub fn new(life: Duration) -> Self {
        Self {
            life,
            issued: Mutex::default(),
        }
    }

    /// A token of `identity` for `peer`, whose certificate ends at `peer_not_after`.
    pub fn token_for(
        &self,
        identity: &Arc<Identity>,
        peer: &SpiffeId,
        peer_not_after: SystemTime,
        now: SystemTime,
    ) -> Result<IssuedToken, TokenError> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = issued.get(peer)
            && Arc::ptr_eq(&known.by, identity)
            && now < known.renew
        {
            return Ok(known.for_peer(peer_not_after));
        }
        let exp = whole_seconds((now + self.life).min(identity.not_after()));
        let token = identity.signer().sign(identity.id(), peer, exp)?.into();
        let renew = now + exp.duration_since(now).unwrap_or_default() / 2;
        let new = Issued {
            by: Arc::clone(identity),
            token,
            exp,
            renew,
        };
        let answer = new.for_peer(peer_not_after);
        if issued.len() >= MAX_PEERS && !issued.contains_key(peer) {
            make_room(&mut issued, now);
        }
        issued.insert(peer.clone(), new);
        Ok(answer)
    }
}

impl Issued {
    fn for_peer(&self, peer_not_after: SystemTime) -> IssuedToken {
        IssuedToken {
            token: self.token.clone(),
            expires: self.exp.min(peer_not_after),
        }
    }
}

/// Old ones first; if all are young, the one that is due next.
fn make_room(issued: &mut BTreeMap<SpiffeId, Issued>, now: SystemTime) {
    issued.retain(|_, known| now < known.renew);
    if issued.len() < MAX_PEERS {
        return;
    }
    if let Some(first) = issued
        .iter()
        .min_by_key(|(_, known)| known.renew)
        .map(|(peer, _)| peer.clone())
    {
        issued.remove(&first);
    }
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    UNIX_EPOCH
        + Duration::from_secs(
            time.duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs(),
        )
}

type Key = [u8; 32];

/// Tokens that were verified against the certificate of their signer; expiry is the caller's check.
#[derive(Debug, Default)]
pub struct VerifiedTokens(Mutex<Generations>);

/// What was asked for lately is in `young`; what was not falls out with `old`.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Arc<Claims>>,
    old: HashMap<Key, Arc<Claims>>,
}

impl VerifiedTokens {
    /// As [`token::verify`], at once when the pair was verified before.
    pub fn verify(&self, token: &str, leaf: &[u8]) -> Result<Arc<Claims>, TokenError> {
        if token.len() > token::MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong(token.len()));
        }
        let key = key(token, leaf);
        if let Some(claims) = self.recall(&key) {
            return Ok(claims);
        }
        let claims = Arc::new(token::verify(token, leaf)?);
        self.remember(key, claims.clone());
        Ok(claims)
    }

    fn recall(&self, key: &Key) -> Option<Arc<Claims>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = all.young.get(key) {
            return Some(claims.clone());
        }
        let claims = all.old.remove(key)?;
        all.insert(*key, claims.clone());
        Some(claims)
    }

    fn remember(&self, key: Key, claims: Arc<Claims>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, claims);
    }
}

impl Generations {
    fn insert(&mut self, key: Key, claims: Arc<Claims>) {
        if self.young.len() >= MAX_VERIFIED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, claims);
    }
}

/// The certificate is part of the key: the same token under another certificate is not verified.
fn key(token: &str, leaf: &[u8]) -> Key {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&leaf.len().to_be_bytes());
    context.update(leaf);
    context.update(token.as_bytes());
    let mut key = Key::default();
    key.copy_from_slice(context.finish().as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::Root;

    fn id(name: &str) -> SpiffeId {
        format!("spiffe://td/{name}").parse().unwrap()
    }

    #[test]
    fn a_token_lasts_until_half_its_life_or_a_new_identity() {
        let root = Root::generate("td".parse().unwrap()).unwrap();
        let life = Duration::from_secs(3600);
        let own = root.issue(&id("a"), life).unwrap();
        let issuer = TokenIssuer::new(DEFAULT_TOKEN_LIFE);
        let now = whole_seconds(SystemTime::now());
        let far = now + life;
        let at = |seconds| {
            issuer
                .token_for(&own, &id("b"), far, now + Duration::from_secs(seconds))
                .unwrap()
        };
        let first = at(0);
        assert_eq!(first.expires, now + DEFAULT_TOKEN_LIFE);
        assert_eq!(at(299), first);
        assert_ne!(at(301), first);
        let cut = issuer
            .token_for(&own, &id("b"), now + Duration::from_secs(400), now)
            .unwrap();
        assert_eq!(cut.expires, now + Duration::from_secs(400));
        assert_ne!(
            issuer.token_for(&own, &id("c"), far, now).unwrap().token,
            first.token
        );
        let rotated = root.issue(&id("a"), Duration::from_secs(60)).unwrap();
        let new = issuer.token_for(&rotated, &id("b"), far, now).unwrap();
        assert_ne!(new.token, first.token);
        assert_eq!(new.expires, rotated.not_after());
        assert_eq!(
            token::decode_unverified(&new.token).unwrap().expires(),
            new.expires
        );
    }

    #[test]
    fn the_number_of_tokens_is_bounded() {
        let root = Root::generate("td".parse().unwrap()).unwrap();
        let identity = root.issue(&id("a"), Duration::from_secs(3600)).unwrap();
        let issuer = TokenIssuer::new(DEFAULT_TOKEN_LIFE);
        let now = SystemTime::now();
        let mut issued = issuer.issued.lock().unwrap();
        for peer in 0..MAX_PEERS {
            let renew = now + Duration::from_secs(10 + peer as u64);
            let entry = Issued {
                by: identity.clone(),
                token: "t".into(),
                exp: renew,
                renew,
            };
            issued.insert(id(&peer.to_string()), entry);
        }
        drop(issued);
        issuer.token_for(&identity, &id("new"), now, now).unwrap();
        let issued = issuer.issued.lock().unwrap();
        assert_eq!(issued.len(), MAX_PEERS);
        assert!(issued.contains_key(&id("new")) && !issued.contains_key(&id("0")));
    }

    #[test]
    fn a_verified_token_is_bound_to_its_certificate() {
        let root = Root::generate("td".parse().unwrap()).unwrap();
        let issue = |name| root.issue(&id(name), Duration::from_secs(60)).unwrap();
        let (a, b) = (issue("a"), issue("b"));
        let tokens = VerifiedTokens::default();
        let token = a.signer().sign(a.id(), b.id(), a.not_after()).unwrap();
        let first = tokens.verify(&token, a.leaf()).unwrap();
        assert!(Arc::ptr_eq(
            &first,
            &tokens.verify(&token, a.leaf()).unwrap()
        ));
        tokens.verify(&token, b.leaf()).unwrap_err();
        tokens.0.lock().unwrap().young.clear();
        for n in 0..MAX_VERIFIED * 3 {
            let mut all = tokens.0.lock().unwrap();
            all.insert(key(&n.to_string(), b""), first.clone());
            assert!(all.young.len() + all.old.len() <= 2 * MAX_VERIFIED);
        }
    }
}
