//! The one place where our errors become gRPC statuses and a peer's statuses become ours.

use std::time::Duration;

use nsm_chain::{Code, Error};
use tonic::Status;

/// The longest text of a status that is sent or taken over, in bytes: it travels in a header, and
/// grpc-go refuses header lists beyond 16 KiB in old versions.
const MAX_MESSAGE: usize = 4_096;

/// gRPC's own key of how long to wait before the next attempt, in milliseconds (gRFC A6).
const PUSHBACK_KEY: &str = "grpc-retry-pushback-ms";

/// How an error is answered.
#[must_use]
pub fn to_status(error: &Error) -> Status {
    let mut status = Status::new(to_grpc(error.code), cut(&error.message));
    if let Some(wait) = error.retry_after {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        status.metadata_mut().insert(PUSHBACK_KEY, millis.into());
    }
    status
}

/// What a peer's status means: its code, and the first cause alone.
///
/// The Go implementation wraps errors as text and loses the code on the way: `Unknown` with
/// `...: rpc error: code = NotFound desc = <first cause>` inside. The innermost one counts.
#[must_use]
pub fn from_status(status: &Status) -> Error {
    let code = from_grpc(status.code());
    let text = status.message();
    let (inner, cause) = first_cause(text);
    let code = match (code, inner) {
        (Code::Unknown, Some(inner)) => inner,
        (Code::Unknown, None) => guess(cause),
        (known, _) => known,
    };
    let cause = if cause.is_empty() {
        "the peer gave no reason"
    } else {
        cause
    };
    Error {
        retry_after: pushback(status),
        ..Error::new(code, cut(cause))
    }
}

/// What a peer asks for before the next attempt; anything but a number of milliseconds is nothing.
fn pushback(status: &Status) -> Option<Duration> {
    let text = status.metadata().get(PUSHBACK_KEY)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_millis)
}

/// Splits `...: rpc error: code = C desc = cause`.
fn first_cause(text: &str) -> (Option<Code>, &str) {
    const MARK: &str = "rpc error: code = ";
    let Some(at) = text.rfind(MARK) else {
        return (None, text);
    };
    let Some((name, cause)) = text[at + MARK.len()..].split_once(" desc = ") else {
        return (None, text);
    };
    let code = NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, code)| *code);
    (code, cause)
}

/// What the text of an error without any code says (Go's standard errors).
fn guess(text: &str) -> Code {
    const TEXTS: [(&str, Code); 7] = [
        ("context deadline exceeded", Code::DeadlineExceeded),
        ("context canceled", Code::Cancelled),
        ("connection refused", Code::Unavailable),
        ("connection reset", Code::Unavailable),
        ("broken pipe", Code::Unavailable),
        ("no such file or directory", Code::Unavailable),
        ("not found", Code::NotFound),
    ];
    TEXTS
        .iter()
        .find(|(part, _)| text.contains(part))
        .map_or(Code::Unknown, |(_, code)| *code)
}

/// grpc-go's names of the codes.
const NAMES: [(&str, Code); 16] = [
    ("Canceled", Code::Cancelled),
    ("Unknown", Code::Unknown),
    ("InvalidArgument", Code::InvalidArgument),
    ("DeadlineExceeded", Code::DeadlineExceeded),
    ("NotFound", Code::NotFound),
    ("AlreadyExists", Code::AlreadyExists),
    ("PermissionDenied", Code::PermissionDenied),
    ("ResourceExhausted", Code::ResourceExhausted),
    ("FailedPrecondition", Code::FailedPrecondition),
    ("Aborted", Code::Aborted),
    ("OutOfRange", Code::InvalidArgument),
    ("Unimplemented", Code::Unimplemented),
    ("Internal", Code::Internal),
    ("Unavailable", Code::Unavailable),
    ("DataLoss", Code::Internal),
    ("Unauthenticated", Code::Unauthenticated),
];

fn to_grpc(code: Code) -> tonic::Code {
    match code {
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::Aborted => tonic::Code::Aborted,
        Code::Unimplemented => tonic::Code::Unimplemented,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        Code::Cancelled => tonic::Code::Cancelled,
        Code::Internal => tonic::Code::Internal,
        Code::Unknown => tonic::Code::Unknown,
    }
}

fn from_grpc(code: tonic::Code) -> Code {
    match code {
        tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Code::InvalidArgument,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::PermissionDenied => Code::PermissionDenied,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::FailedPrecondition => Code::FailedPrecondition,
        tonic::Code::Aborted => Code::Aborted,
        tonic::Code::Unimplemented => Code::Unimplemented,
        tonic::Code::Unavailable => Code::Unavailable,
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::Cancelled => Code::Cancelled,
        tonic::Code::Internal | tonic::Code::DataLoss => Code::Internal,
        // An error with the code of success is a peer's fault without a name.
        tonic::Code::Unknown | tonic::Code::Ok => Code::Unknown,
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_MESSAGE)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_goes_there_and_back() {
        for (_, code) in NAMES {
            let error = Error::new(code, "service \"x\" has no endpoint");
            assert_eq!(from_status(&to_status(&error)), error);
        }
    }

    #[test]
    fn a_peers_text() {
        let unknown = tonic::Code::Unknown;
        for (grpc, text, code, cause) in [
            (
                unknown,
                "failed to request: rpc error: code = NotFound desc = no nse",
                Code::NotFound,
                "no nse",
            ),
            (
                unknown,
                "a: rpc error: code = Unknown desc = b: rpc error: code = Canceled desc = c",
                Code::Cancelled,
                "c",
            ),
            (
                unknown,
                "dial: context deadline exceeded",
                Code::DeadlineExceeded,
                "dial: context deadline exceeded",
            ),
            (
                unknown,
                "rpc error: code = Odd desc = cause",
                Code::Unknown,
                "cause",
            ),
            (unknown, "who knows", Code::Unknown, "who knows"),
            (
                tonic::Code::Ok,
                "",
                Code::Unknown,
                "the peer gave no reason",
            ),
            (tonic::Code::DataLoss, "x", Code::Internal, "x"),
            (
                tonic::Code::PermissionDenied,
                "no: rpc error: code = Internal desc = cause",
                Code::PermissionDenied,
                "cause",
            ),
        ] {
            let error = from_status(&Status::new(grpc, text));
            assert_eq!(
                (error.code, error.message.as_str()),
                (code, cause),
                "{text}"
            );
        }
    }

    #[test]
    fn a_hint_goes_there_and_back() {
        let busy = Error::busy("too many", Duration::from_millis(200));
        assert!(busy.retry_after.unwrap() >= Duration::from_millis(200));
        let read = from_status(&to_status(&busy));
        let millis = |error: &Error| error.retry_after.map(|wait| wait.as_millis());
        assert_eq!(millis(&read), millis(&busy));
        for said in ["-1", "soon", ""] {
            let mut status = to_status(&busy);
            status
                .metadata_mut()
                .insert(PUSHBACK_KEY, said.parse().unwrap());
            assert_eq!(from_status(&status).retry_after, None, "{said:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let status = to_status(&Error::new(Code::Internal, "é".repeat(MAX_MESSAGE)));
        assert_eq!(status.message().len(), MAX_MESSAGE);
    }
}
