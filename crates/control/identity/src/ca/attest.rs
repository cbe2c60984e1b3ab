//! Who is calling: what the kernel says about the process at the other end of a unix socket.
//!
//! The socket tells the caller's pid at the time of its connect. A pid can be taken over by another
//! process, so a pidfd is opened at once, the process must be older than the accepted connection
//! and run as the user that connected, and it must still live after its `/proc` entries were read.
//! `SO_PEERPIDFD` would close the last gap between connect and accept, but has no safe binding.

use std::{fs, io, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::net::UnixStream;

/// `/proc` counts in hundredths of a second on every Linux (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// Both clocks are cut to whole ticks.
const TICK_SLACK: u64 = 1;

/// Why a caller cannot be attested; nothing is issued then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// The kernel gave no pid.
    #[error(
        "the caller's process is not visible from here: run the agent in the host's (the outermost) pid namespace"
    )]
    Invisible,
    /// Gone, or its pid was reused.
    #[error("process {0} is not the one that connected, or has ended")]
    Gone(u32),
    /// No permission to look.
    #[error(
        "cannot read {path} of the caller: {reason}; attesting processes of other users needs root or CAP_SYS_PTRACE"
    )]
    Forbidden {
        /// What was read.
        path: String,
        /// The system's word.
        reason: String,
    },
    /// Something else.
    #[error("cannot read {path} of the caller: {reason}")]
    Unreadable {
        /// What was read.
        path: String,
        /// The system's word.
        reason: String,
    },
}

/// The process at the other end of a connection, held against reuse of its pid.
#[derive(Clone, Debug)]
pub struct Caller {
    pid: u32,
    uid: u32,
    pidfd: Arc<OwnedFd>,
}

/// What entries select by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The process.
    pub pid: u32,
    /// Its effective user when it connected.
    pub uid: u32,
    /// Its executable as it sees it itself; combine with a namespace where images differ. It does
    /// not keep processes of one user apart that mean each other harm: they could also trace each
    /// other.
    pub exe: PathBuf,
    /// The inode of its network namespace.
    pub netns: u64,
    /// The inode of its pid namespace.
    pub pidns: u64,
}

impl Caller {
    /// Of a connection that was accepted just now.
    pub fn of(stream: &UnixStream) -> Result<Self, AttestError> {
        let accepted = now_ticks();
        let credentials = stream
            .peer_cred()
            .map_err(|error| unreadable("peer credentials", &error))?;
        let raw = credentials
            .pid()
            .filter(|pid| *pid > 0)
            .ok_or(AttestError::Invisible)?;
        let pid = u32::try_from(raw).map_err(|_| AttestError::Invisible)?;
        let checked = Pid::from_raw(raw).ok_or(AttestError::Invisible)?;
        let pidfd = pidfd_open(checked, PidfdFlags::empty()).map_err(|_| AttestError::Gone(pid))?;
        let caller = Self {
            pid,
            uid: credentials.uid(),
            pidfd: Arc::new(pidfd),
        };
        let started = start_ticks(pid).map_err(|error| caller.explain("stat", &error))?;
        let user = effective_uid(pid).map_err(|error| caller.explain("status", &error))?;
        if started > accepted? + TICK_SLACK || user != caller.uid || !caller.alive() {
            return Err(AttestError::Gone(pid));
        }
        Ok(caller)
    }

    /// Reads what entries select by; fails closed when anything is hidden from this process.
    pub fn facts(&self) -> Result<Facts, AttestError> {
        let link = |name: &str| {
            fs::read_link(format!("/proc/{}/{name}", self.pid))
                .map_err(|error| self.explain(name, &error))
        };
        let inode = |name: &str| {
            let target = link(name)?;
            parse_inode(&target.to_string_lossy()).ok_or_else(|| AttestError::Unreadable {
                path: format!("/proc/{}/{name}", self.pid),
                reason: format!("{target:?} is not a namespace"),
            })
        };
        let facts = Facts {
            pid: self.pid,
            uid: self.uid,
            exe: link("exe")?,
            netns: inode("ns/net")?,
            pidns: inode("ns/pid")?,
        };
        if self.alive() {
            Ok(facts)
        } else {
            Err(AttestError::Gone(self.pid))
        }
    }

    /// Whether the very process that connected still runs.
    pub fn alive(&self) -> bool {
        let mut fds = [PollFd::new(&*self.pidfd, PollFlags::IN)];
        // A pidfd becomes readable when its process ends.
        matches!(
            poll(
                &mut fds,
                Some(&Timespec {
                    tv_sec: 0,
                    tv_nsec: 0
                })
            ),
            Ok(0)
        )
    }

    fn explain(&self, name: &str, error: &io::Error) -> AttestError {
        let path = format!("/proc/{}/{name}", self.pid);
        if error.kind() == io::ErrorKind::PermissionDenied {
            AttestError::Forbidden {
                path,
                reason: error.to_string(),
            }
        } else if error.kind() == io::ErrorKind::NotFound {
            AttestError::Gone(self.pid)
        } else {
            unreadable(&path, error)
        }
    }
}

fn unreadable(path: &str, error: &io::Error) -> AttestError {
    AttestError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

/// `net:[4026531840]`
fn parse_inode(target: &str) -> Option<u64> {
    target.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
}

fn start_ticks(pid: u32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    parse_start(&stat).ok_or_else(|| io::Error::other("unknown format"))
}

/// Field 22 of `/proc/<pid>/stat`; the second field, the name, may contain any bytes.
pub(crate) fn parse_start(stat: &[u8]) -> Option<u64> {
    let stat = String::from_utf8_lossy(stat);
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

fn effective_uid(pid: u32) -> io::Result<u32> {
    let status = fs::read(format!("/proc/{pid}/status"))?;
    parse_user(&status).ok_or_else(|| io::Error::other("unknown format"))
}

/// The second number of the line `Uid:`; the first line, the name, may contain any bytes but a
/// newline.
pub(crate) fn parse_user(status: &[u8]) -> Option<u32> {
    let status = String::from_utf8_lossy(status);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn now_ticks() -> Result<u64, AttestError> {
    let path = "/proc/uptime";
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let seconds = text
        .split(' ')
        .next()
        .and_then(|field| field.parse::<f64>().ok());
    let ticks =
        seconds.and_then(|seconds| format!("{:.0}", seconds * TICKS_PER_SECOND).parse().ok());
    ticks.ok_or_else(|| AttestError::Unreadable {
        path: path.to_owned(),
        reason: "unknown format".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sees_this_very_process() {
        let (here, _there) = UnixStream::pair().unwrap();
        let caller = Caller::of(&here).unwrap();
        let facts = caller.facts().unwrap();
        assert!(caller.alive());
        assert_eq!(
            (facts.pid, facts.uid),
            (std::process::id(), rustix::process::geteuid().as_raw())
        );
        assert_eq!(facts.exe, std::env::current_exe().unwrap());
        assert!(facts.netns > 0 && facts.pidns > 0);
    }

    #[tokio::test]
    #[allow(
        clippy::disallowed_methods,
        reason = "the test needs a process that ends"
    )]
    async fn notices_that_a_process_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let pidfd = Arc::new(pidfd_open(pid, PidfdFlags::empty()).unwrap());
        child.wait().unwrap();
        let caller = Caller {
            pid: child.id(),
            uid: 0,
            pidfd,
        };
        assert!(!caller.alive());
        assert_eq!(caller.facts(), Err(AttestError::Gone(child.id())));
    }

    #[test]
    fn a_name_may_be_any_bytes() {
        let rest = b" S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 8 9\n";
        for name in [&b"nsm"[..], b"b\xc3", b"\xff) R 1", b"a b", b")", b""] {
            let stat = [&b"42 ("[..], name, b")", rest].concat();
            assert_eq!(parse_start(&stat), Some(777), "{name:?}");
            let status = [&b"Name:\t"[..], name, b"\nUmask:\t0022\nUid:\t1\t2\t3\t4\n"].concat();
            assert_eq!(parse_user(&status), Some(2), "{name:?}");
        }
        assert_eq!(parse_start(b"42 (nsm"), None);
        assert_eq!(parse_user(b"Name:\tnsm\n"), None);
    }

    #[test]
    fn parses_namespaces() {
        for (text, inode) in [
            ("net:[4026531840]", Some(4_026_531_840)),
            ("net:[x]", None),
            ("net", None),
        ] {
            assert_eq!(parse_inode(text), inode);
        }
    }
}
