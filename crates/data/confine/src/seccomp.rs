//! The system call filter: built from a list, put on every thread.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

use crate::{ConfineError, Profile, calls};

/// Each allowed call; without rules in any way, else when one of them holds.
pub(crate) type Calls = BTreeMap<i64, Vec<SeccompRule>>;

/// What a call that is not on the list gets: what a kernel without it would say, so that a library
/// goes the older way which it has for such kernels. Nothing is killed: a release must not die at
/// night of a call that a newer libc makes, and the call has no effect either way.
const ANSWER: i32 = libc::ENOSYS;

/// Whether system calls are filtered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seccomp {
    /// They are: so many are allowed, all others answered with ENOSYS.
    On(usize),
    /// This kernel, or what this process runs in, has no such filters: its reason.
    Absent(String),
    /// Turned off.
    Off,
}

/// Filters this process from now on.
pub(crate) fn install(profile: Profile) -> Result<Seccomp, ConfineError> {
    let calls = calls::of(profile).map_err(broken)?;
    let program = compile(&calls)?;
    match apply_filter_all_threads(&program) {
        Ok(()) => Ok(Seccomp::On(calls.len())),
        Err(Error::Prctl(error) | Error::Seccomp(error)) => Ok(Seccomp::Absent(error.to_string())),
        Err(error) => Err(ConfineError::Filter(error.to_string())),
    }
}

fn compile(calls: &Calls) -> Result<BpfProgram, ConfineError> {
    let target = std::env::consts::ARCH.try_into().map_err(broken)?;
    SeccompFilter::new(
        calls.clone(),
        SeccompAction::Errno(ANSWER.unsigned_abs()),
        SeccompAction::Allow,
        target,
    )
    .and_then(TryInto::try_into)
    .map_err(broken)
}

fn broken(error: BackendError) -> ConfineError {
    ConfineError::Filter(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What classic BPF may have (`BPF_MAXINSNS`).
    const INSTRUCTIONS: usize = 4096;

    #[test]
    fn every_list_is_a_filter() {
        for profile in Profile::ALL {
            let program = compile(&calls::of(profile).unwrap()).unwrap();
            assert!(program.len() < INSTRUCTIONS, "{profile:?}");
        }
    }
}
