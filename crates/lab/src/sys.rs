//! The few system calls of the lab that the language calls unsafe, and small readers of /proc.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// Gives the calling thread new namespaces of the given kinds.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    assert!(
        !flags.contains(UnshareFlags::FILES),
        "descriptor tables stay shared"
    );
    // SAFETY: the call is unsafe only for CLONE_FILES, which is refused above.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Moves the calling thread into the network namespace behind `path` (`/proc/PID/ns/net`).
pub(crate) fn enter_network(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// The inode number of a namespace file: the kernel's identity of the namespace while it lives.
pub(crate) fn inode(path: impl AsRef<Path>) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.ino())
}

/// The inode of namespace `kind` (`net`, `pid`, `mnt`, `user`) of process `pid` as this process
/// numbers it.
pub(crate) fn inode_of(pid: u32, kind: &str) -> io::Result<u64> {
    inode(format!("/proc/{pid}/ns/{kind}"))
}

/// All process numbers this process's /proc shows.
pub(crate) fn processes() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// When a process started, in clock ticks since boot (field 22 of proc_pid_stat(5)): tells a
/// process from a later one with the same number.
pub(crate) fn started(pid: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces; the state (field 3) follows the last parenthesis.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    after
        .split_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid}/stat has no start time"),
            )
        })
}

/// True when the process runs (a zombie does not).
pub(crate) fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|text| {
            text.rsplit_once(')')
                .map(|(_, after)| !after.trim_start().starts_with(['Z', 'X']))
        })
        .unwrap_or(false)
}

/// 64 bits of the kernel's randomness as lower-case hexadecimal.
pub(crate) fn random_id() -> io::Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}
