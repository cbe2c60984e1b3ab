//! What a role's process gives up at its start: capabilities, new privileges, system calls.
//!
//! Called once, by a process that has one thread, before it reads a byte from anybody: what is
//! started later inherits all of it. What each role keeps, and why, is the table in [`profile`].

mod arenas;
mod calls;
mod capabilities;
pub mod profile;
mod seccomp;

use std::io;

pub use capabilities::Capabilities;
pub use profile::{Profile, Right};
pub use seccomp::Seccomp;

/// Why a process cannot give up what it should; it must not go on then.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Some of it applies to the calling thread alone.
    #[error("this process has {0} threads: it has to confine itself while it has one")]
    Threads(usize),
    /// The system refused.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        error: io::Error,
    },
    /// The list of system calls is no filter: a mistake in this program.
    #[error("the list of system calls cannot be compiled: {0}")]
    Filter(String),
}

/// What came of it, for the log.
#[derive(Debug)]
pub struct Confined {
    /// What is left of the capabilities.
    pub capabilities: Capabilities,
    /// Whether system calls are filtered.
    pub seccomp: Seccomp,
}

/// Gives up what a role does not need. With `filter` false every system call stays allowed, which
/// is for debugging alone.
///
/// # Errors
/// [`ConfineError`]; a kernel without seccomp is no error but a [`Seccomp::Absent`].
pub fn confine(profile: Profile, filter: bool) -> Result<Confined, ConfineError> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(ConfineError::Threads(threads));
    }
    arenas::limit();
    let capabilities = capabilities::drop_to(profile.rights())?;
    rustix::thread::set_no_new_privs(true).map_err(refused("set no_new_privs"))?;
    let seccomp = if filter {
        seccomp::install(profile)?
    } else {
        Seccomp::Off
    };
    Ok(Confined {
        capabilities,
        seccomp,
    })
}

fn refused<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> ConfineError {
    move |error| ConfineError::System {
        what,
        error: error.into(),
    }
}
