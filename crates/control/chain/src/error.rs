//! What can go wrong on the way, who is to blame, and the one gRPC code of it.

use std::{fmt, time::Duration};

use nsm_policy::denial::Denial;

use crate::seam;

/// The gRPC status codes that a role answers with (gRPC specification, status codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The request itself is wrong: a field and its value are named.
    InvalidArgument,
    /// What was asked for does not exist.
    NotFound,
    /// Something with that name exists and belongs to somebody else.
    AlreadyExists,
    /// The caller may not do this.
    PermissionDenied,
    /// The caller did not prove who it is.
    Unauthenticated,
    /// A limit is reached, or a pool is empty.
    ResourceExhausted,
    /// The request cannot be done in the state that things are in.
    FailedPrecondition,
    /// Another request for the same item got in between.
    Aborted,
    /// Nobody supports what was asked for.
    Unimplemented,
    /// A peer is away; the same request may work later.
    Unavailable,
    /// Time ran out.
    DeadlineExceeded,
    /// The caller gave up.
    Cancelled,
    /// Our own fault, or the kernel's.
    Internal,
    /// A peer answered without a code.
    Unknown,
}

/// Whose side a failure is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Whoever asked.
    Caller,
    /// A peer that we asked.
    Peer,
    /// The next hop, which could not be reached: nobody further on was asked.
    NextHop,
    /// The kernel of this node.
    Kernel,
    /// This process.
    Us,
}

/// One failure: the first cause, said once, with its code.
#[allow(
    clippy::error_impl_error,
    reason = "the one error of every chain: `nsm_chain::Error`"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The gRPC code it is answered with.
    pub code: Code,
    /// Whose side it is on.
    pub blame: Blame,
    /// What failed, to whom, and what to do about it.
    pub message: String,
    /// How long to wait before asking again, where whoever refused knows that.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// A failure with the blame that its code usually has.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let blame = match code {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::Cancelled
            | Code::Unimplemented => Blame::Caller,
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Aborted => {
                Blame::Peer
            }
            Code::ResourceExhausted | Code::Internal => Blame::Us,
        };
        Self {
            code,
            blame,
            message: message.into(),
            retry_after: None,
        }
    }

    /// A limit is reached now and will not be soon: ask again after about `wait`, which is drawn
    /// out at random so that a crowd does not come back at once.
    pub fn busy(message: impl Into<String>, wait: Duration) -> Self {
        let share = u32::try_from(seam::chance() % 1024).unwrap_or(0);
        Self {
            retry_after: Some(wait + wait * share / 1024),
            ..Self::new(Code::ResourceExhausted, message)
        }
    }

    /// Tells of a denial: its line and its count are made here, and it is what the caller gets.
    #[must_use]
    pub fn denied(denial: &Denial) -> Self {
        denial.tell();
        Self::new(Code::PermissionDenied, denial.why.clone())
    }

    /// A failure of the node's kernel.
    pub fn kernel(code: Code, message: impl Into<String>) -> Self {
        Self {
            blame: Blame::Kernel,
            ..Self::new(code, message)
        }
    }

    /// Whether the same request may work later, unchanged.
    #[must_use]
    pub fn retriable(&self) -> bool {
        matches!(
            self.code,
            Code::Unavailable
                | Code::DeadlineExceeded
                | Code::ResourceExhausted
                | Code::Aborted
                | Code::Unknown
                | Code::NotFound
                | Code::Cancelled
        )
    }

    /// Several failures of one close as one: the first one's code, every message.
    #[must_use]
    pub fn join(errors: Vec<Self>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        for error in errors {
            if error.message != first.message {
                first.message.push_str("; ");
                first.message.push_str(&error.message);
            }
        }
        Some(first)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
