//! What travels beside a gRPC call: the registry path, the caller's token, its time limit, and the
//! status that comes back.

use nsm_chain::Code;
use nsm_rpc::{meta, status};
use tonic::{
    Status,
    metadata::{AsciiMetadataValue, MetadataMap},
};

use crate::text;

fn one(key: &'static str, value: &[u8]) -> Option<MetadataMap> {
    let mut metadata = MetadataMap::new();
    metadata.append(key, AsciiMetadataValue::try_from(value).ok()?);
    Some(metadata)
}

/// The JSON of a registry path; and as three parts, a line each: when a token expires, a time
/// limit, and a status with the rest.
pub fn metadata(data: &[u8]) {
    path(data);
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    token(line());
    timeout(line());
    if let Some(message) = text(line()) {
        peers_status(message);
    }
}

/// The registry path, which crosses every hop of a registration.
fn path(data: &[u8]) {
    let Some(metadata) = one(meta::PATH_KEY, data) else {
        return;
    };
    let path = match meta::path(&metadata) {
        Ok(path) => path.unwrap(),
        Err(error) => return assert_eq!(error.code, Code::InvalidArgument),
    };
    let segments = path.path_segments.len();
    assert!(data.len() <= meta::MAX_PATH_BYTES && segments <= meta::MAX_PATH_SEGMENTS);
    assert!(path.index as usize <= segments.saturating_sub(1));
    let mut onwards = MetadataMap::new();
    let put = meta::put_path(&mut onwards, &path);
    // What is written may be longer than what was read: `{}` becomes `{"token":""}`.
    if data.len() > meta::MAX_PATH_BYTES / 2 && put.is_err() {
        return;
    }
    put.unwrap();
    assert_eq!(meta::path(&onwards).unwrap().unwrap(), path);
}

fn token(expires: &[u8]) {
    let Some(mut metadata) = one(meta::EXPIRES_KEY, expires) else {
        return;
    };
    assert!(meta::token(&metadata).is_err(), "half a token");
    metadata.insert(meta::TOKEN_KEY, AsciiMetadataValue::from_static("a.b.c"));
    let Ok(token) = meta::token(&metadata) else {
        return;
    };
    let token = token.unwrap();
    let mut onwards = MetadataMap::new();
    meta::put_token(&mut onwards, &token).unwrap();
    assert_eq!(meta::token(&onwards).unwrap().unwrap(), token);
}

fn timeout(value: &[u8]) {
    let Some(metadata) = one(meta::TIMEOUT_KEY, value) else {
        return;
    };
    match meta::timeout(&metadata) {
        Ok(limit) => assert!(limit.unwrap() <= meta::MAX_TIMEOUT),
        Err(error) => assert_eq!(error.code, Code::InvalidArgument),
    }
}

/// A peer's words, for each way that they may come in.
fn peers_status(message: &str) {
    for code in [
        tonic::Code::Unknown,
        tonic::Code::Ok,
        tonic::Code::NotFound,
        tonic::Code::OutOfRange,
    ] {
        let error = status::from_status(&Status::new(code, message));
        assert!(!error.message.is_empty());
        // Its own limit, or as long as the note that there is no reason.
        assert!(error.message.len() <= message.len().max(64));
        let onwards = status::to_status(&error);
        let again = status::from_status(&onwards);
        assert_eq!(again.message, error.message);
        assert!(error.code == Code::Unknown || again.code == error.code);
    }
}
