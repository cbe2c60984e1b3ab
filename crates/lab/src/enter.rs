//! Into the lab: the process gives itself namespaces in which it is root, before it has a thread.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use crate::error::LabError;
use crate::sys;

/// Holds the inode of the lab's own network namespace and the number of the process: a child that
/// inherits it does not match.
const MARKER: &str = "NSM_LAB_NETNS";

/// Re-executes the program (`/proc/self/exe`, same arguments) as root of new network and mount
/// namespaces, and of a new user namespace unless it is allowed to do without. Returns in the
/// process that is inside.
///
/// Call it first thing in `main`: a process with threads cannot change its user namespace.
///
/// # Errors
/// [`LabError::Forbidden`] when the machine refuses user namespaces to this user.
pub fn enter() -> Result<(), LabError> {
    if entered() {
        return Ok(());
    }
    make_namespaces()?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(|e| LabError::system("make the mounts of the lab private", e))?;
    let inode = sys::inode("/proc/self/ns/net")
        .map_err(|e| LabError::file("read", "/proc/self/ns/net", e))?;
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_else(|| OsString::from("nsm"));
    let error = Command::new("/proc/self/exe")
        .arg0(name)
        .args(args)
        .env(MARKER, marker(inode))
        .exec();
    Err(LabError::system(
        "run /proc/self/exe again inside the lab",
        error,
    ))
}

/// True in a process that went through [`enter`] (and not in the cells it made).
#[must_use]
pub fn entered() -> bool {
    let inode = sys::inode("/proc/self/ns/net").ok();
    inode.is_some_and(|inode| std::env::var(MARKER).ok() == Some(marker(inode)))
}

fn marker(inode: u64) -> String {
    format!("{inode}.{}", std::process::id())
}

fn make_namespaces() -> Result<(), LabError> {
    let own = UnshareFlags::NEWNET | UnshareFlags::NEWNS;
    let forbidden = |what| move |source| LabError::Forbidden { what, source };
    if rustix::process::geteuid().is_root() {
        match sys::unshare(own) {
            Ok(()) => return Ok(()),
            // Root of a container without CAP_SYS_ADMIN: go on as any user would.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            Err(source) => {
                return Err(LabError::Forbidden {
                    what: "network and mount",
                    source,
                });
            }
        }
    }
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    sys::unshare(own | UnshareFlags::NEWUSER).map_err(forbidden("user, network and mount"))?;
    // Without `deny` the kernel refuses an unprivileged gid_map (user_namespaces(7)).
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(file, text)
            .map_err(|e| io::Error::new(e.kind(), format!("write {file}: {e}")))
            .map_err(forbidden("user"))?;
    }
    Ok(())
}
