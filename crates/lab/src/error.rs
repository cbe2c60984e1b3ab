//! What can go wrong in a lab, and what to do about it.

use std::io;
use std::path::PathBuf;

/// A failure of the lab, of one of its cells or of a measurement.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A role did not say that it is ready.
    #[error("{what}: not ready; its log ends with\n{log}")]
    NotReady {
        /// Which role, and what was waited for.
        what: String,
        /// The last lines of its log.
        log: String,
    },
    /// This machine does not let the current user make the namespaces a lab consists of. Tests skip
    /// on it.
    #[error(
        "cannot create {what} namespaces as this user ({source}): run as root, or allow user namespaces \
         (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
    )]
    Forbidden {
        /// Which namespaces were asked for.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `Lab::new` was called in a process that never went through [`crate::enter`].
    #[error(
        "this process is not in a lab's namespaces: call nsm_lab::enter() first thing in main, before any thread starts"
    )]
    NotEntered,
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried, with the value it was tried on.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Reading or writing a file failed.
    #[error("{what} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The first process of a cell refused a command.
    #[error("cell {cell}: {message}")]
    Refused {
        /// The cell's name.
        cell: String,
        /// What its first process answered.
        message: String,
    },
    /// The cell's first process is gone.
    #[error("cell {cell} is dead: it was killed, or its first process failed; see its log")]
    Dead {
        /// The cell's name.
        cell: String,
    },
    /// Something did not answer in time.
    #[error("{what}: no answer within {milliseconds} ms")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        milliseconds: u128,
    },
    /// A name or number given to the lab cannot be used.
    #[error("{field} {value:?}: {reason}")]
    Invalid {
        /// The argument.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No lab stands under this name.
    #[error("no lab named {name:?} stands here (looked for {path}): start one with `nsm lab up`", path = path.display())]
    NotStanding {
        /// The lab's name.
        name: String,
        /// The state file that is missing or stale.
        path: PathBuf,
    },
}

impl LabError {
    /// True when the machine lacks a feature, as opposed to the lab being wrong: tests skip and
    /// count.
    #[must_use]
    pub fn is_missing_feature(&self) -> bool {
        matches!(self, Self::Forbidden { .. })
    }

    pub(crate) fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System {
            what: what.into(),
            source: source.into(),
        }
    }

    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::File {
            what,
            path: path.into(),
            source: source.into(),
        }
    }
}
