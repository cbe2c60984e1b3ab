//! JWTs: the tokens of a connection's path, and the JWT SVIDs that workloads have checked.

use std::time::{Duration, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nsm_identity::{
    decoders,
    token::{self, Claims, MAX_TOKEN_BYTES},
    token_cache::VerifiedTokens,
};
use nsm_model::spiffe::SpiffeId;

use crate::{
    fixtures::{self, LEAF, SIGNER},
    text,
};

/// A token as it comes; or a header, a newline and claims, which are then truly signed.
pub fn token(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Some((header, claims)) = text.split_once('\n') {
        let signed = decoders::sign(&SIGNER, header, claims.as_bytes()).unwrap();
        return check(&signed, true);
    }
    check(text, false);
    // The claims alone, so that what mutates is not hidden by base64.
    let claims = URL_SAFE_NO_PAD.encode(text);
    if let Ok(claims) = token::decode_unverified(&format!("e30.{claims}.")) {
        read(&claims);
    }
}

fn read(claims: &Claims) {
    let again = serde_json::to_vec(claims).unwrap();
    let again = format!("e30.{}.", URL_SAFE_NO_PAD.encode(again));
    if again.len() <= MAX_TOKEN_BYTES {
        assert_eq!(token::decode_unverified(&again).as_ref(), Ok(claims));
    }
    for now in [
        UNIX_EPOCH,
        fixtures::now(),
        UNIX_EPOCH + Duration::from_secs(1 << 60),
    ] {
        let good = claims.check_expiry(now);
        assert_eq!(good.is_ok(), now < claims.expires(), "{good:?}");
        if let Err(error) = good {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// `ours`: the fixture's key signed it, whatever it says.
fn check(jwt: &str, ours: bool) {
    let claims = token::decode_unverified(jwt);
    if jwt.len() > MAX_TOKEN_BYTES {
        assert!(claims.is_err());
    }
    if let Ok(claims) = &claims {
        read(claims);
    }
    let verified = token::verify(jwt, &LEAF);
    let cache = VerifiedTokens::default();
    for _ in 0..2 {
        let cached = cache.verify(jwt, &LEAF).map(|claims| (*claims).clone());
        assert_eq!(cached, verified);
    }
    if let Ok(proved) = &verified {
        assert_eq!(claims.as_ref(), Ok(proved));
        assert_eq!(proved.sub, fixtures::value("id"));
        assert!(is_es256(jwt));
        assert!(ours || known(jwt), "forged: {jwt}");
    }
    let jwks = fixtures::value("jwks").as_bytes();
    match decoders::jwt_svid(jwt, "audience", fixtures::now(), jwks) {
        Ok((id, fields)) => {
            let claims = claims.unwrap();
            assert_eq!(claims.sub.parse::<SpiffeId>().as_ref(), Ok(&id));
            assert!(claims.aud.iter().any(|aud| aud == "audience"));
            assert!(claims.expires() > fixtures::now());
            assert!(fields >= 2, "sub and exp at least");
            assert!(is_es256(jwt));
            assert!(ours || known(jwt), "forged: {jwt}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn is_es256(jwt: &str) -> bool {
    let header = jwt.split('.').next().unwrap();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["alg"] == "ES256"
}

/// Whether its signed part is one that the key has signed: nobody can make another.
fn known(jwt: &str) -> bool {
    let signed = |jwt: &str| jwt.rsplit_once('.').map(|(signed, _)| signed.to_owned());
    ["token", "jwt_svid"]
        .iter()
        .any(|name| signed(fixtures::value(name)) == signed(jwt))
}
