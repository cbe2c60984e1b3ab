//! The rules of what travels beside a call.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

use std::time::{Duration, UNIX_EPOCH};

use nsm_api::connection::{Path, PathSegment};
use nsm_chain::{Code, Token};
use nsm_rpc::meta;
use tonic::metadata::{AsciiMetadataKey, MetadataMap};

fn metadata(pairs: &[(&str, &str)]) -> MetadataMap {
    let mut map = MetadataMap::new();
    for (key, value) in pairs {
        map.append(
            AsciiMetadataKey::from_bytes(key.as_bytes()).unwrap(),
            value.parse().unwrap(),
        );
    }
    map
}

#[test]
fn tokens_there_and_back() {
    let expires = UNIX_EPOCH + Duration::new(1_900_000_000, 123_456_789);
    let token = Token {
        jwt: "a.b.c".to_owned(),
        expires,
        left: Some(Duration::from_millis(599_000)),
    };
    let mut map = MetadataMap::new();
    meta::put_token(&mut map, &token).unwrap();
    assert_eq!(
        map.get(meta::EXPIRES_KEY).unwrap(),
        "2030-03-17T17:46:40.123456789Z"
    );
    assert_eq!(meta::token(&map).unwrap(), Some(token));
}

#[test]
fn token_rules() {
    const JWT: (&str, &str) = (meta::TOKEN_KEY, "a.b.c");
    const SECONDS: u64 = 1_900_000_000;
    let at = |text| (meta::EXPIRES_KEY, text);
    let long = "x".repeat(meta::MAX_TOKEN_BYTES + 1);
    for (pairs, expected) in [
        (vec![], Ok(None)),
        (vec![JWT, at("2030-03-17T17:46:40Z")], Ok(Some(SECONDS))),
        (
            vec![JWT, at("2030-03-17T17:46:40.000000001Z")],
            Ok(Some(SECONDS)),
        ),
        (
            vec![JWT, at("2030-03-17T19:46:40+02:00")],
            Ok(Some(SECONDS)),
        ),
        (
            vec![JWT, at("2030-03-17T12:16:40.5-05:30")],
            Ok(Some(SECONDS)),
        ),
        (vec![JWT], Err("came without \"nsm-client-token-expires\"")),
        (
            vec![at("2030-03-17T17:46:40Z")],
            Err("came without \"nsm-client-token\""),
        ),
        (
            vec![JWT, JWT, at("2030-03-17T17:46:40Z")],
            Err("has 2 values"),
        ),
        (
            vec![JWT, at("2030-03-17T17:46:40Z"), at("2030-03-17T17:46:40Z")],
            Err("has 2 values"),
        ),
        (vec![JWT, at("tomorrow")], Err("is \"tomorrow\"")),
        (vec![JWT, at("")], Err("is \"\"")),
        (
            vec![JWT, at("2030-03-17T17:46:40+99:00")],
            Err("write an RFC 3339 time"),
        ),
        (
            vec![JWT, at("2030-03-17T17:46:40*02:00")],
            Err("write an RFC 3339 time"),
        ),
        (
            vec![JWT, at("1970-01-01T00:00:00+02:00")],
            Err("write an RFC 3339 time"),
        ),
        (
            vec![(meta::TOKEN_KEY, &long), at("2030-03-17T17:46:40Z")],
            Err("at most 8192 are read"),
        ),
    ] {
        match (meta::token(&metadata(&pairs)), expected) {
            (Ok(None), Ok(None)) => {}
            (Ok(Some(token)), Ok(Some(seconds))) => {
                assert_eq!(
                    token.expires.duration_since(UNIX_EPOCH).unwrap().as_secs(),
                    seconds,
                    "{pairs:?}"
                );
            }
            (Err(error), Err(says)) => {
                assert_eq!(error.code, Code::InvalidArgument);
                assert!(error.message.contains(says), "{error}");
            }
            (got, expected) => panic!("{pairs:?}: {got:?}, not {expected:?}"),
        }
    }
}

#[test]
fn times_that_nobody_could_write_on() {
    for expires in ["2030-03-17T17:46:40++1:+2", "9999-12-31T23:59:59-00:01"] {
        let pairs = [(meta::TOKEN_KEY, "a.b.c"), (meta::EXPIRES_KEY, expires)];
        let error = meta::token(&metadata(&pairs)).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
        assert!(error.message.contains("write an RFC 3339 time"), "{error}");
    }
}

#[test]
fn paths_there_and_back() {
    let segment = |token: &str| PathSegment {
        token: token.to_owned(),
        ..PathSegment::default()
    };
    let path = Path {
        index: 1,
        path_segments: vec![segment("a"), segment("b")],
        ..Path::default()
    };
    let mut map = MetadataMap::new();
    meta::put_path(&mut map, &path).unwrap();
    assert_eq!(
        map.get("path").unwrap(),
        r#"{"Index":1,"PathSegments":[{"token":"a"},{"token":"b"}]}"#
    );
    assert_eq!(meta::path(&map).unwrap(), Some(path));
    assert_eq!(meta::path(&MetadataMap::new()).unwrap(), None);
}

#[test]
fn path_rules() {
    let many = format!(r#"{{"PathSegments":[{}]}}"#, vec!["{}"; 65].join(","));
    for (text, expected) in [
        (r#"{"Index":0,"PathSegments":null}"#, Ok((0, vec![]))),
        (
            r#"{"PathSegments":[{},{"token":"a\u00e4"}]}"#,
            Err("the token of segment 1 is no JWT"),
        ),
        (
            r#"{"PathSegments":[{"token":"a\u007f"}]}"#,
            Err("the token of segment 0 is no JWT"),
        ),
        ("{}", Ok((0, vec![]))),
        (
            r#"{"Index":0,"PathSegments":[{"token":"a","id":"x","name":"n","new":1}],"more":{}}"#,
            Ok((0, vec!["a"])),
        ),
        (
            r#"{"Index":1,"PathSegments":[{"token":"a"}]}"#,
            Err("Index 1 of 1 segments"),
        ),
        (r#"{"Index":-1}"#, Err("is not a registry path")),
        ("token", Err("is not a registry path")),
        (many.as_str(), Err("65 segments")),
    ] {
        match (meta::path(&metadata(&[("path", text)])), expected) {
            (Ok(Some(path)), Ok((index, tokens))) => {
                let found: Vec<_> = path
                    .path_segments
                    .iter()
                    .map(|one| one.token.as_str())
                    .collect();
                assert_eq!((path.index, found), (index, tokens));
            }
            (Err(error), Err(says)) => assert!(error.message.contains(says), "{error}"),
            (got, expected) => panic!("{text}: {got:?}, not {expected:?}"),
        }
    }
    // grpc-go appends where an outer call's value is already; the last one counts.
    let two = metadata(&[
        ("path", r#"{"PathSegments":[{"token":"old"}]}"#),
        ("path", "{}"),
    ]);
    assert_eq!(meta::path(&two).unwrap(), Some(Path::default()));
}

#[test]
fn timeouts() {
    for (text, expected) in [
        ("1H", Ok(meta::MAX_TIMEOUT)),
        ("2M", Ok(Duration::from_secs(120))),
        ("15S", Ok(Duration::from_secs(15))),
        ("1500m", Ok(Duration::from_millis(1_500))),
        ("250u", Ok(Duration::from_micros(250))),
        ("99999999n", Ok(Duration::from_nanos(99_999_999))),
        ("99999999H", Ok(meta::MAX_TIMEOUT)),
        ("100000000n", Err(())),
        ("S", Err(())),
        ("", Err(())),
        ("-1S", Err(())),
        ("1s", Err(())),
        ("1.5S", Err(())),
    ] {
        let found = meta::timeout(&metadata(&[("grpc-timeout", text)]));
        assert_eq!(
            found.map(Option::unwrap).map_err(drop),
            expected,
            "{text:?}"
        );
    }
    assert_eq!(meta::timeout(&MetadataMap::new()).unwrap(), None);
}

#[tokio::test]
async fn what_is_left_is_sent() {
    use tokio::time::Instant;
    for (limit, unit) in [(1, 'u'), (90, 'u'), (120, 'm'), (100_000, 'm')] {
        let limit = Duration::from_secs(limit);
        let mut map = MetadataMap::new();
        meta::put_deadline(&mut map, Instant::now() + limit).unwrap();
        assert!(
            map.get("grpc-timeout")
                .unwrap()
                .to_str()
                .unwrap()
                .ends_with(unit)
        );
        let left = meta::timeout(&map).unwrap().unwrap();
        let limit = limit.min(meta::MAX_TIMEOUT);
        assert!(
            left <= limit && left + Duration::from_secs(1) > limit,
            "{left:?}"
        );
    }
    let over = meta::put_deadline(&mut MetadataMap::new(), Instant::now());
    assert_eq!(over.unwrap_err().code, Code::DeadlineExceeded);
}
