//! What travels beside a call: the caller's token, the registry path, the deadline.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nsm_api::connection::{Path, PathSegment};
use nsm_chain::{Code, Error, Token};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

/// The caller's JWT (sdk/pkg/tools/token).
pub const TOKEN_KEY: &str = "nsm-client-token";
/// When it expires, RFC 3339 with up to nine digits of a second.
pub const EXPIRES_KEY: &str = "nsm-client-token-expires";
/// What is left of the token's life by its sender's clock, in milliseconds: ours alone, so that a
/// lease between our own hops does not depend on two clocks agreeing. Peers that do not know it
/// pass it by.
pub const LEFT_KEY: &str = "nsm-client-token-left-ms";
/// The path of a registry call, in requests and in response headers
/// (sdk/pkg/registry/common/grpcmetadata).
pub const PATH_KEY: &str = "path";
/// gRPC's own key of the time that is left.
pub const TIMEOUT_KEY: &str = "grpc-timeout";

/// How long a call may take whose caller names no limit: upstream's default for a request.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest limit that is honoured: beyond it a forgotten call would hold its connection's turn.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// The longest path that is read: a hop is two or three segments, and eight hops are many.
pub const MAX_PATH_SEGMENTS: usize = 64;
/// The longest `path` value, in bytes: [`MAX_PATH_SEGMENTS`] tokens of 700 bytes.
pub const MAX_PATH_BYTES: usize = 48 * 1024;
/// The longest token, in bytes: SPIFFE IDs may have 2,048, and base64 adds a third.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The end of the year 9999, since 1970: RFC 3339 has no later time.
const END: Duration = Duration::from_secs(253_402_300_800);

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidArgument, message)
}

fn value(key: &str, text: &str) -> Result<AsciiMetadataValue, Error> {
    AsciiMetadataValue::try_from(text).map_err(|_| {
        invalid(format!(
            "metadata {key:?} would carry bytes that are not ASCII"
        ))
    })
}

/// The only value of a key; `None` when absent.
fn single<'a>(metadata: &'a MetadataMap, key: &str) -> Result<Option<&'a str>, Error> {
    let mut values = metadata.get_all(key).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    let more = values.count();
    if more > 0 {
        return Err(invalid(format!(
            "metadata {key:?} has {} values; send exactly one",
            more + 1
        )));
    }
    let text = first
        .to_str()
        .map_err(|_| invalid(format!("metadata {key:?} is not ASCII")))?;
    Ok(Some(text))
}

/// Puts the caller's token into a request.
///
/// # Errors
/// When the token is not ASCII, which a JWT always is.
pub fn put_token(metadata: &mut MetadataMap, token: &Token) -> Result<(), Error> {
    metadata.insert(TOKEN_KEY, value(TOKEN_KEY, &token.jwt)?);
    metadata.insert(EXPIRES_KEY, value(EXPIRES_KEY, &rfc3339(token.expires))?);
    if let Some(left) = token.left {
        metadata.insert(LEFT_KEY, value(LEFT_KEY, &left.as_millis().to_string())?);
    }
    Ok(())
}

/// The caller's token; `None` when it sent none, which the elements that need one refuse.
///
/// # Errors
/// When there is half a token, more than one, or one that cannot be read.
pub fn token(metadata: &MetadataMap) -> Result<Option<Token>, Error> {
    match (single(metadata, TOKEN_KEY)?, single(metadata, EXPIRES_KEY)?) {
        (None, None) => Ok(None),
        (Some(jwt), Some(_)) if jwt.len() > MAX_TOKEN_BYTES => Err(invalid(format!(
            "metadata {TOKEN_KEY:?} has {} bytes; at most {MAX_TOKEN_BYTES} are read",
            jwt.len()
        ))),
        (Some(jwt), Some(expires)) => Ok(Some(Token {
            jwt: jwt.to_owned(),
            expires: parse_rfc3339(expires)?,
            left: left(metadata)?,
        })),
        (Some(_), None) => Err(invalid(format!(
            "metadata {TOKEN_KEY:?} came without {EXPIRES_KEY:?}"
        ))),
        (None, Some(_)) => Err(invalid(format!(
            "metadata {EXPIRES_KEY:?} came without {TOKEN_KEY:?}"
        ))),
    }
}

fn left(metadata: &MetadataMap) -> Result<Option<Duration>, Error> {
    let Some(text) = single(metadata, LEFT_KEY)? else {
        return Ok(None);
    };
    let millis = text.parse().map_err(|_| {
        invalid(format!(
            "metadata {LEFT_KEY:?} is {text:?}; write whole milliseconds"
        ))
    })?;
    Ok(Some(Duration::from_millis(millis)))
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

/// Go writes its local offset where the machine has one; `Z` and offsets are read.
fn parse_rfc3339(text: &str) -> Result<SystemTime, Error> {
    let bad = || {
        invalid(format!(
            "metadata {EXPIRES_KEY:?} is {text:?}; write an RFC 3339 time, such as 2030-01-02T03:04:05Z"
        ))
    };
    if text.ends_with(['Z', 'z']) {
        return humantime::parse_rfc3339(text).map_err(|_| bad());
    }
    let at = text
        .len()
        .checked_sub(6)
        .filter(|at| text.is_char_boundary(*at))
        .ok_or_else(bad)?;
    let (local, offset) = text.split_at(at);
    let time = humantime::parse_rfc3339(&format!("{local}Z")).map_err(|_| bad())?;
    let (hours, minutes) = offset[1..].split_once(':').ok_or_else(bad)?;
    let two_digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    if !two_digits(hours) || !two_digits(minutes) {
        return Err(bad());
    }
    let hours: u64 = hours.parse().map_err(|_| bad())?;
    let minutes: u64 = minutes.parse().map_err(|_| bad())?;
    if hours > 23 || minutes > 59 {
        return Err(bad());
    }
    let shift = Duration::from_secs(hours * 3_600 + minutes * 60);
    let shifted = match offset.as_bytes()[0] {
        b'+' => time.checked_sub(shift),
        b'-' => time.checked_add(shift),
        _ => None,
    };
    let printable = UNIX_EPOCH..UNIX_EPOCH + END;
    shifted
        .filter(|time| printable.contains(time))
        .ok_or_else(bad)
}

/// The JSON form of the registry path: Go's field names, which it reads in any case.
#[derive(Serialize, Deserialize)]
struct PathJson {
    #[serde(rename = "Index", alias = "index", default)]
    index: u32,
    #[serde(rename = "PathSegments", alias = "path_segments", default)]
    segments: Option<Vec<SegmentJson>>,
}

#[derive(Serialize, Deserialize)]
struct SegmentJson {
    #[serde(alias = "Token", default)]
    token: String,
}

/// Puts the registry path into a request or a response header.
///
/// # Errors
/// When it is longer than peers read.
pub fn put_path(metadata: &mut MetadataMap, path: &Path) -> Result<(), Error> {
    let segments = path.path_segments.iter();
    let json = PathJson {
        index: path.index,
        segments: Some(
            segments
                .map(|one| SegmentJson {
                    token: one.token.clone(),
                })
                .collect(),
        ),
    };
    let text = serde_json::to_string(&json)
        .map_err(|error| Error::new(Code::Internal, format!("the registry path: {error}")))?;
    check_path(text.len(), path.path_segments.len())?;
    metadata.insert(PATH_KEY, value(PATH_KEY, &text)?);
    Ok(())
}

fn check_path(bytes: usize, segments: usize) -> Result<(), Error> {
    if bytes > MAX_PATH_BYTES || segments > MAX_PATH_SEGMENTS {
        return Err(invalid(format!(
            "metadata {PATH_KEY:?} has {segments} segments in {bytes} bytes; \
             at most {MAX_PATH_SEGMENTS} in {MAX_PATH_BYTES} are read: does the path run in a circle?"
        )));
    }
    Ok(())
}

/// The registry path of a request or a response header; `None` when there is none.
///
/// # Errors
/// When it is not the JSON of a path.
pub fn path(metadata: &MetadataMap) -> Result<Option<Path>, Error> {
    // Go's client appends where a value is already, and its server reads the last one.
    let Some(last) = metadata.get_all(PATH_KEY).iter().next_back() else {
        return Ok(None);
    };
    let text = last
        .to_str()
        .map_err(|_| invalid(format!("metadata {PATH_KEY:?} is not ASCII")))?;
    check_path(text.len(), 0)?;
    let json: PathJson = serde_json::from_str(text).map_err(|error| {
        invalid(format!(
            "metadata {PATH_KEY:?} is not a registry path: {error}"
        ))
    })?;
    let segments = json.segments.unwrap_or_default();
    check_path(text.len(), segments.len())?;
    // A JWT is nothing else, and what else JSON can say by escapes could not be sent on.
    let plain = |token: &str| token.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(at) = segments.iter().position(|one| !plain(&one.token)) {
        return Err(invalid(format!(
            "metadata {PATH_KEY:?}: the token of segment {at} is no JWT"
        )));
    }
    let segments: Vec<_> = segments
        .into_iter()
        .map(|one| PathSegment {
            token: one.token,
            ..PathSegment::default()
        })
        .collect();
    // The index of an empty path is 0, else it names a segment.
    if json.index as usize > segments.len().saturating_sub(1) {
        let (index, count) = (json.index, segments.len());
        return Err(invalid(format!(
            "metadata {PATH_KEY:?}: Index {index} of {count} segments"
        )));
    }
    Ok(Some(Path {
        index: json.index,
        path_segments: segments,
        ..Path::default()
    }))
}

/// Puts the time that is left until `deadline` into a request.
///
/// # Errors
/// When it has passed: the call is not made.
pub fn put_deadline(metadata: &mut MetadataMap, deadline: Instant) -> Result<Duration, Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Error::new(
            Code::DeadlineExceeded,
            "the time was over before the call to the next hop",
        ));
    }
    let left = left.min(MAX_TIMEOUT);
    // Eight digits at most: microseconds up to 99 s, then milliseconds.
    let text = if left.as_secs() < 99 {
        format!("{}u", left.as_micros().max(1))
    } else {
        format!("{}m", left.as_millis())
    };
    metadata.insert(TIMEOUT_KEY, value(TIMEOUT_KEY, &text)?);
    Ok(left)
}

/// The time limit that the caller gives, cut to [`MAX_TIMEOUT`]; `None` when it gives none.
///
/// # Errors
/// When it is not gRPC's form: one to eight digits and one of `HMSmun`.
pub fn timeout(metadata: &MetadataMap) -> Result<Option<Duration>, Error> {
    let Some(text) = single(metadata, TIMEOUT_KEY)? else {
        return Ok(None);
    };
    let bad = || {
        invalid(format!(
            "metadata {TIMEOUT_KEY:?} is {text:?}; write 1 to 8 digits and one of HMSmun"
        ))
    };
    let (digits, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(bad)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let given = match unit {
        "H" => Duration::from_secs(number.saturating_mul(3_600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return Err(bad()),
    };
    Ok(Some(given.min(MAX_TIMEOUT)))
}
