//! Whose links they are, where several forwarders run in one node's namespace.
//!
//! A link's alias ends with the mark of the forwarder that made it, so that each sweeps what is its
//! own alone. Two of one name would have one mark: a name is claimed, once in a network namespace.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nsm_plan::alias_key;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    sockopt,
};

/// How long a process of this name that may be ending is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How claims are called: abstract sockets, which a network namespace has once, also where
/// processes see different files.
const CLAIMS: &str = "nsm-forwarder/";

/// Stands for a forwarder's name in the aliases of its links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// Of the forwarder with this name: FNV-1a, which no version of anything changes.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, mix))
    }

    /// An alias of ours without its mark, and the mark; links of versions before have none.
    pub(crate) fn split(alias: &str) -> (&str, Option<Self>) {
        let marked = alias.rsplit_once(':').and_then(|(plain, mark)| {
            let digits = mark.len() == 16 && mark.bytes().all(|digit| digit.is_ascii_hexdigit());
            let mark = u64::from_str_radix(mark, 16).ok();
            let mark = mark.filter(|_| digits && alias_key(plain).is_some())?;
            Some((plain, Some(Self(mark))))
        });
        marked.unwrap_or((alias, None))
    }
}

/// An alias with a mark, 56 bytes of the kernel's 255; or without one.
pub(crate) fn marked(mark: Option<Mark>, alias: &str) -> String {
    mark.map_or_else(|| alias.to_owned(), |mark| format!("{alias}:{mark}"))
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A name that nobody else has in this network namespace, for as long as this lives.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "held")] OwnedFd);

/// Why a name is not claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// A process of our user, or of root.
    #[error(
        "another forwarder named {0:?} runs in this node's network namespace: stop it, or give this one a --name, a \
         --listen-on and a --state-dir of its own"
    )]
    Held(String),
    /// Whoever it is may have done it to stop us.
    #[error(
        "user {uid} of this node holds the name of forwarder {name:?}, and is no forwarder: stop its process"
    )]
    Squatted {
        /// The forwarder's name.
        name: String,
        /// The user.
        uid: u32,
    },
    /// The kernel's.
    #[error("claiming the name of forwarder {0:?}: {1}")]
    Refused(String, Errno),
}

impl Claim {
    /// Claims a forwarder's name in the calling thread's network namespace; waits for a process
    /// before that is ending.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn take(name: &str) -> Result<Self, ClaimError> {
        let until = Instant::now() + PATIENCE;
        let refused = |errno| ClaimError::Refused(name.to_owned(), errno);
        loop {
            let holder = match claim(name).map_err(refused)? {
                Ok(claim) => return Ok(claim),
                Err(address) => holder(&address),
            };
            if Instant::now() >= until {
                return Err(match holder {
                    Ok(uid) if uid != 0 && uid != rustix::process::geteuid().as_raw() => {
                        let name = name.to_owned();
                        ClaimError::Squatted { name, uid }
                    }
                    _ => ClaimError::Held(name.to_owned()),
                });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// The claim, or where it is held.
fn claim(name: &str) -> Result<Result<Claim, SocketAddrUnix>, Errno> {
    let called = format!("{CLAIMS}{}", Mark::of(name));
    let address = SocketAddrUnix::new_abstract_name(called.as_bytes())?;
    let socket = socket()?;
    match bind(&socket, &address) {
        Ok(()) => {}
        Err(Errno::ADDRINUSE) => return Ok(Err(address)),
        Err(error) => return Err(error),
    }
    // Nobody is accepted: it tells others whose it is.
    listen(&socket, 1)?;
    Ok(Ok(Claim(socket)))
}

/// The user who holds a claim.
fn holder(address: &SocketAddrUnix) -> Result<u32, Errno> {
    let socket = socket()?;
    connect(&socket, address)?;
    Ok(sockopt::socket_peercred(&socket)?.uid.as_raw())
}

/// Whether a forwarder of another name runs in this process's network namespace.
pub(crate) fn others(mark: Mark) -> bool {
    // Who cannot tell is not alone.
    let Ok(table) = std::fs::read_to_string("/proc/thread-self/net/unix") else {
        return true;
    };
    let mut claims = table
        .lines()
        .filter_map(|row| row.rsplit_once(&format!("@{CLAIMS}")));
    claims.any(|(_, claimed)| claimed.trim() != mark.to_string())
}

#[cfg(test)]
mod tests {
    use nsm_plan::{KeyDigest, Role, alias};

    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_is_one() {
        let plain = alias(KeyDigest([0xab; 16]), Role::Client);
        let mark = Mark::of("forwarder-node-1");
        assert_ne!(mark, Mark::of("forwarder-node-2"));
        let text = marked(Some(mark), &plain);
        assert_eq!(Mark::split(&text), (plain.as_str(), Some(mark)));
        assert_eq!(text.len(), 56);
        assert_eq!(marked(None, &plain), plain);
        let rows = [
            plain.clone(),
            String::new(),
            "uplink:0123456789abcdef".to_owned(),
            format!("{plain}:12"),
            format!("{plain}:0123456789abcdeg"),
            format!("{plain}:+123456789abcdef"),
            format!("{plain}::"),
        ];
        for row in rows {
            assert_eq!(Mark::split(&row), (row.as_str(), None), "{row}");
        }
    }
}
