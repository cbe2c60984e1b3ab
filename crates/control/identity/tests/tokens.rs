//! Tokens: the exact form that upstream writes, and everything that must be refused.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what failed")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use nsm_identity::{
    Identity,
    ca::Root,
    token::{self, Claims, MAX_TOKEN_BYTES},
};
use nsm_model::spiffe::SpiffeId;

fn id(name: &str) -> SpiffeId {
    format!("spiffe://example.org/{name}").parse().unwrap()
}

fn issue(name: &str) -> std::sync::Arc<Identity> {
    let root = Root::generate("example.org".parse().unwrap()).unwrap();
    root.issue(&id(name), Duration::from_secs(3600)).unwrap()
}

fn forge(header: &str, claims: &str, signature: &str) -> String {
    format!("{}.{}.{signature}", B64.encode(header), B64.encode(claims))
}

#[test]
fn has_exactly_the_form_of_the_contract() {
    let client = issue("client");
    let exp = UNIX_EPOCH + Duration::from_millis(1_900_000_000_999);
    let token = client
        .signer()
        .sign(client.id(), &id("manager"), exp)
        .unwrap();
    let parts: Vec<_> = token.split('.').collect();
    let text = |part: &str| String::from_utf8(B64.decode(part).unwrap()).unwrap();
    assert_eq!(text(parts[0]), r#"{"alg":"ES256","typ":"JWT"}"#);
    assert_eq!(
        text(parts[1]),
        r#"{"sub":"spiffe://example.org/client","aud":["spiffe://example.org/manager"],"exp":1900000000}"#
    );
    assert_eq!(B64.decode(parts[2]).unwrap().len(), 64);
    let claims = token::verify(&token, client.leaf()).unwrap();
    assert_eq!(claims, token::decode_unverified(&token).unwrap());
    assert_eq!(
        claims.expires(),
        UNIX_EPOCH + Duration::from_secs(1_900_000_000)
    );
}

#[test]
fn reads_both_forms_of_audience_and_expiry() {
    for (claims, aud, exp) in [
        (r#"{"sub":"a","aud":["b","c"],"exp":7}"#, vec!["b", "c"], 7),
        (r#"{"sub":"a","aud":"b","exp":7.9}"#, vec!["b"], 7),
        (r#"{"sub":"a","aud":[],"exp":7,"iat":3,"x":{}}"#, vec![], 7),
        (r#"{"sub":"a","exp":7}"#, vec![], 7),
    ] {
        let read = token::decode_unverified(&forge("{}", claims, "")).unwrap();
        let aud = aud.into_iter().map(str::to_owned).collect();
        assert_eq!(
            read,
            Claims {
                sub: "a".to_owned(),
                aud,
                exp
            }
        );
    }
}

/// The token must be refused under the certificate, in these words, without its signature in the
/// text.
fn refused(token: &str, leaf: &Identity, says: &str) {
    let error = token::verify(token, leaf.leaf()).unwrap_err().to_string();
    assert!(error.contains(says), "{error:?} should say {says:?}");
    if let Some((_, signature)) = token
        .rsplit_once('.')
        .filter(|(_, signature)| signature.len() > 8)
    {
        assert!(
            !error.contains(signature),
            "{error:?} contains the signature"
        );
    }
}

#[test]
fn forged_tokens_are_refused_with_a_clear_word() {
    let client = issue("client");
    let exp = SystemTime::now() + Duration::from_secs(60);
    let good = client.signer().sign(client.id(), client.id(), exp).unwrap();
    let (_, signature) = good.rsplit_once('.').unwrap();
    let claims = r#"{"sub":"spiffe://example.org/client","aud":["x"],"exp":9}"#;
    let es256 = r#"{"alg":"ES256"}"#;
    for (header, claims, signature, says) in [
        (r#"{"alg":"none"}"#, claims, "", "algorithm is \"none\""),
        (
            r#"{"alg":"RS256"}"#,
            claims,
            signature,
            "algorithm is \"RS256\"",
        ),
        (r#"{"alg":"es256"}"#, claims, signature, "only ES256"),
        ("{}", claims, signature, "malformed: header"),
        (
            es256,
            r#"{"sub":"a","aud":7,"exp":9}"#,
            signature,
            "aud must be",
        ),
        (
            es256,
            r#"{"sub":"a","aud":["b"],"exp":"9"}"#,
            signature,
            "malformed: claims",
        ),
        (
            es256,
            r#"{"sub":"a","aud":["b"],"exp":-9}"#,
            signature,
            "exp must be",
        ),
        (
            es256,
            r#"{"sub":"a","aud":["b"]}"#,
            signature,
            "missing field `exp`",
        ),
        (
            r#"{"alg":"PS256"}"#,
            claims,
            signature,
            "algorithm is \"PS256\"",
        ),
        (
            r#"{"alg":"HS256"}"#,
            claims,
            signature,
            "algorithm is \"HS256\"",
        ),
        (
            es256,
            r#"{"aud":["b"],"exp":9}"#,
            signature,
            "missing field `sub`",
        ),
        (
            es256,
            claims,
            signature,
            "is not signed by spiffe://example.org/client",
        ),
        (es256, claims, "!!", "malformed: signature"),
    ] {
        refused(&forge(header, claims, signature), &client, says);
    }
}

#[test]
fn damaged_and_stolen_tokens_are_refused_with_a_clear_word() {
    let (client, other) = (issue("client"), issue("other"));
    let exp = SystemTime::now() + Duration::from_secs(60);
    let good = client.signer().sign(client.id(), other.id(), exp).unwrap();
    let stolen_name = other.signer().sign(client.id(), other.id(), exp).unwrap();
    let mut flipped = good.clone().into_bytes();
    let middle = good.find('.').unwrap() + 20;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    for (token, leaf, says) in [
        (
            good.clone(),
            &other,
            "is not signed by spiffe://example.org/other",
        ),
        (stolen_name, &other, "speaks only for its signer"),
        (good[..good.len() / 2].to_owned(), &client, "malformed"),
        (good[..good.len() - 4].to_owned(), &client, ""),
        (format!("{good}.x"), &client, "three parts"),
        (String::new(), &client, "three parts"),
        (String::from_utf8(flipped).unwrap(), &client, ""),
        ("a".repeat(MAX_TOKEN_BYTES + 1), &client, "bytes, at most"),
    ] {
        refused(&token, leaf, says);
    }
}

#[test]
fn expiry_is_a_check_of_its_own() {
    let client = issue("client");
    let now = SystemTime::now();
    let past = client
        .signer()
        .sign(client.id(), client.id(), now - Duration::from_secs(5))
        .unwrap();
    let claims = token::verify(&past, client.leaf()).unwrap();
    let error = claims.check_expiry(now).unwrap_err().to_string();
    assert!(error.contains("expired at 20"), "{error}");
    claims.check_expiry(now - Duration::from_secs(10)).unwrap();
}

/// The figures are of a release build: `cargo test --release -p nsm-identity --test tokens --
/// --nocapture`.
#[test]
fn prints_what_signing_and_verifying_cost() {
    let client = issue("client");
    let exp = SystemTime::now() + Duration::from_secs(60);
    let rounds = if cfg!(debug_assertions) { 20 } else { 2_000 };
    let token = client.signer().sign(client.id(), client.id(), exp).unwrap();
    let clock = std::time::Instant::now();
    for _ in 0..rounds {
        client.signer().sign(client.id(), client.id(), exp).unwrap();
    }
    let sign = clock.elapsed() / rounds;
    let clock = std::time::Instant::now();
    for _ in 0..rounds {
        token::verify(&token, client.leaf()).unwrap();
    }
    let verify = clock.elapsed() / rounds;
    println!("token: sign {sign:?}, verify {verify:?} (targets 15 us and 50 us in release)");
    if !cfg!(debug_assertions) {
        assert!(sign < Duration::from_micros(150) && verify < Duration::from_micros(500));
    }
}
