//! Tokens made and tokens checked, remembered: a signature costs 15 microseconds, a verification
//! 50.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
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

/// How long a generation is young. A request and its answer, and others that carry the same token
/// of a hop, come within seconds; who asks again later than two of these is checked anew, and what
/// nobody shows any more is let go.
const YOUNG_FOR: Duration = Duration::from_secs(30);

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
    issued: Mutex<Tokens>,
}

#[derive(Debug, Default)]
struct Tokens {
    of: BTreeMap<SpiffeId, Issued>,
    /// When those are let go that are not handed out any more: their peers may be gone.
    sweep: Option<SystemTime>,
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
        if let Some(known) = issued.of.get(peer)
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
        issued.make_room(peer, now, self.life / 2);
        issued.of.insert(peer.clone(), new);
        Ok(answer)
    }
}

impl Tokens {
    /// Old ones first, every so often in any case; if all are young, the one that is due next.
    fn make_room(&mut self, peer: &SpiffeId, now: SystemTime, every: Duration) {
        let full = self.of.len() >= MAX_PEERS && !self.of.contains_key(peer);
        // A clock that was set back does not put it off for longer.
        let due = self.sweep.is_none_or(|due| now >= due || now + every < due);
        if !full && !due {
            return;
        }
        self.of.retain(|_, known| now < known.renew);
        self.sweep = Some(now + every);
        if self.of.len() < MAX_PEERS || !full {
            return;
        }
        let first = self.of.iter().min_by_key(|(_, known)| known.renew);
        if let Some(first) = first.map(|(peer, _)| peer.clone()) {
            self.of.remove(&first);
        }
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
    /// When the young ones are not young any more.
    grows: Option<Instant>,
}

impl VerifiedTokens {
    /// As [`token::verify`], at once when the pair was verified before.
    pub fn verify(&self, token: &str, leaf: &[u8]) -> Result<Arc<Claims>, TokenError> {
        if token.len() > token::MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong(token.len()));
        }
        let key = key(token, leaf);
        if let Some(claims) = self.recall(&key, Instant::now()) {
            return Ok(claims);
        }
        let claims = Arc::new(token::verify(token, leaf)?);
        self.remember(key, claims.clone());
        Ok(claims)
    }

    fn recall(&self, key: &Key, now: Instant) -> Option<Arc<Claims>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.grow(now);
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
            self.grow_up();
        }
        self.young.insert(key, claims);
    }

    /// What nobody has asked for during two such spans is gone.
    fn grow(&mut self, now: Instant) {
        match self.grows {
            None => self.grows = Some(now + YOUNG_FOR),
            Some(due) if now >= due => {
                self.grow_up();
                self.grows = Some(now + YOUNG_FOR);
            }
            Some(_) => {}
        }
    }

    fn grow_up(&mut self) {
        self.old = std::mem::take(&mut self.young);
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
        issued.sweep = Some(now + Duration::from_secs(100));
        for peer in 0..MAX_PEERS {
            let renew = now + Duration::from_secs(10 + peer as u64);
            let entry = Issued {
                by: identity.clone(),
                token: "t".into(),
                exp: renew,
                renew,
            };
            issued.of.insert(id(&peer.to_string()), entry);
        }
        drop(issued);
        issuer.token_for(&identity, &id("new"), now, now).unwrap();
        let issued = issuer.issued.lock().unwrap();
        assert_eq!(issued.of.len(), MAX_PEERS);
        assert!(issued.of.contains_key(&id("new")) && !issued.of.contains_key(&id("0")));
    }

    /// Peers come and go: no more is kept than of those of half a life, and of the half before.
    #[test]
    fn tokens_of_peers_that_are_gone_are_let_go() {
        let root = Root::generate("td".parse().unwrap()).unwrap();
        let identity = root.issue(&id("a"), Duration::from_secs(3600)).unwrap();
        let issuer = TokenIssuer::new(Duration::from_secs(20));
        let begin = whole_seconds(SystemTime::now());
        let mut most = 0;
        for second in 0..200 {
            let now = begin + Duration::from_secs(second);
            let peer = id(&second.to_string());
            issuer.token_for(&identity, &peer, now, now).unwrap();
            most = most.max(issuer.issued.lock().unwrap().of.len());
        }
        assert!((10..=20).contains(&most), "{most}");
        // A clock that is set back keeps nothing for longer.
        for second in 0..40 {
            let now = begin - Duration::from_secs(1000 - second);
            let peer = id(&format!("back-{second}"));
            issuer.token_for(&identity, &peer, now, now).unwrap();
        }
        let left = issuer.issued.lock().unwrap().of.len();
        assert!(left <= 2 * most, "{left}");
    }

    /// What is asked for stays known; what nobody asks for any more is gone after two spans.
    #[test]
    fn verified_tokens_of_those_who_are_gone_are_let_go() {
        let claims = Arc::new(Claims {
            sub: String::new(),
            aud: Vec::new(),
            exp: 0,
        });
        let tokens = VerifiedTokens::default();
        let begin = Instant::now();
        let name = |n: u64| key(&n.to_string(), b"");
        let steady = name(u64::MAX);
        tokens.remember(steady, claims.clone());
        for second in 0..600 {
            let now = begin + Duration::from_secs(second);
            assert!(tokens.recall(&steady, now).is_some(), "{second}");
            assert!(tokens.recall(&name(second), now).is_none());
            tokens.remember(name(second), claims.clone());
            let all = tokens.0.lock().unwrap();
            let known = all.young.len() + all.old.len();
            assert!(known <= 62, "{known} after {second} s");
        }
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
