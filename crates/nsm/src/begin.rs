//! What a role does while it has one thread: it begins its log, and gives up what it does not need.

use anyhow::Context as _;
use clap::ValueEnum;
use nsm_confine::{Confined, Profile, Seccomp, confine};

use crate::logs::{self, Format};

/// Whether system calls are filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Filter {
    /// They are.
    On,
    /// They are not: for debugging alone.
    Off,
}

/// What is known of a role before it runs.
#[derive(Debug)]
pub(crate) struct Beginning<'a> {
    pub(crate) profile: Profile,
    pub(crate) log_level: &'a str,
    pub(crate) log_format: Format,
    pub(crate) seccomp: Filter,
}

impl Beginning<'_> {
    /// See the module.
    pub(crate) fn begin(&self) -> anyhow::Result<()> {
        logs::start(self.log_level, self.log_format)?;
        let confined = confine(self.profile, self.seccomp == Filter::On)
            .context("giving up what this role does not need")?;
        tell(&confined);
        Ok(())
    }
}

/// One line of what there is, and one for each thing that is not as it should be.
fn tell(confined: &Confined) {
    let Confined {
        capabilities,
        seccomp,
    } = confined;
    let calls = match seccomp {
        Seccomp::On(calls) => *calls,
        Seccomp::Absent(reason) => {
            tracing::warn!(
                reason,
                "this kernel filters no system calls: every one is allowed"
            );
            0
        }
        Seccomp::Off => {
            tracing::warn!(
                "--seccomp off: every system call is allowed; for debugging alone, never in production"
            );
            0
        }
    };
    if !capabilities.missing.is_empty() {
        let missing = capabilities.missing.join(",");
        tracing::warn!(
            missing,
            "this role was started without capabilities that it needs"
        );
    }
    if capabilities.bounding_kept {
        tracing::debug!("the bounding set stays as it is, without CAP_SETPCAP");
    }
    let kept = capabilities.kept.join(",");
    tracing::info!(capabilities = kept, system_calls = calls, "confined");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who keeps what and why is a promise: the page and the table are one.
    #[test]
    fn every_right_is_documented() {
        let page = include_str!("../../../docs/security.md");
        for right in Profile::ALL.into_iter().flat_map(Profile::rights) {
            let row = format!("| {} | {} |", right.name, right.reason);
            assert!(page.contains(&row), "docs/security.md has no row {row:?}");
        }
    }
}
