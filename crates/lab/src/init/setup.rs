//! Namespaces and mounts of a cell, made by its first process before any role runs in it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::netlink::Netlink;
use crate::sys;
use crate::wire::{Bind, Setup};

/// Bounds of the memory file systems of a cell: a runaway role fills its own and not the machine's
/// memory.
const RUN_OPTIONS: &std::ffi::CStr = c"mode=0755,size=64m";
const TMP_OPTIONS: &std::ffi::CStr = c"mode=1777,size=256m";

/// Applies a set-up; `network` is the namespace to share when the cell has none of its own.
pub(super) fn apply(setup: &Setup, network: Option<OwnedFd>) -> Result<(), String> {
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWUTS;
    if setup.own_network {
        flags |= UnshareFlags::NEWNET;
    }
    sys::unshare(flags).map_err(|e| format!("create its namespaces: {e}"))?;
    if let Some(network) = network {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|e| format!("enter the network namespace it shares: {e}"))?;
    }
    rustix::system::sethostname(setup.name.as_bytes())
        .map_err(|e| format!("set host name {:?}: {e}", setup.name))?;
    mounts(setup)?;
    if setup.own_network {
        loopback().map_err(|e| format!("bring its loopback up: {e}"))?;
    }
    Ok(())
}

fn mounts(setup: &Setup) -> Result<(), String> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(|e| format!("make its mounts private: {e}"))?;
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    if setup.own_processes {
        mount("proc", "/proc", "proc", safe | MountFlags::NOEXEC, None).map_err(|e| {
            format!("mount its own /proc: {e} (a container that masks parts of /proc forbids it: run with an unmasked /proc)")
        })?;
    }
    // Opened before /run and /tmp are covered: what is bound may lie below them.
    let sources = setup
        .binds
        .iter()
        .map(|bind| open(&bind.source).map(|file| (bind, file)))
        .collect::<Result<Vec<_>, _>>()?;
    for (path, options) in [
        ("/run", RUN_OPTIONS),
        ("/tmp", TMP_OPTIONS),
        ("/dev/shm", TMP_OPTIONS),
    ] {
        if Path::new(path).is_dir() {
            mount("tmpfs", path, "tmpfs", safe, options)
                .map_err(|e| format!("mount a tmpfs on {path}: {e}"))?;
        }
    }
    sources
        .into_iter()
        .try_for_each(|(bind, file)| attach(bind, &file))
}

fn open(source: &Path) -> Result<OwnedFd, String> {
    rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| format!("open {} to show it in the cell: {e}", source.display()))
}

fn attach(bind: &Bind, source: &OwnedFd) -> Result<(), String> {
    let failed =
        |what: &str, e: io::Error| format!("{what} {} in the cell: {e}", bind.target.display());
    let reference = format!("/proc/self/fd/{}", source.as_raw_fd());
    let folder = fs::metadata(&reference)
        .map_err(|e| failed("inspect what goes to", e))?
        .is_dir();
    if folder {
        fs::create_dir_all(&bind.target).map_err(|e| failed("create folder", e))?;
    } else if !bind.target.exists() {
        if let Some(parent) = bind.target.parent() {
            fs::create_dir_all(parent).map_err(|e| failed("create the folder of", e))?;
        }
        fs::write(&bind.target, "").map_err(|e| failed("create file", e))?;
    }
    mount_bind(&*reference, &bind.target).map_err(|e| failed("bind", e.into()))?;
    if bind.read_only {
        // The other flags may be locked by an outer namespace (mount_namespaces(7)); setting them
        // all is always allowed.
        let flags = MountFlags::BIND
            | MountFlags::RDONLY
            | MountFlags::NOSUID
            | MountFlags::NODEV
            | MountFlags::NOEXEC;
        mount_remount(&bind.target, flags, c"").map_err(|e| failed("make read-only", e.into()))?;
    }
    Ok(())
}

fn loopback() -> io::Result<()> {
    // A machine that starts with IPv6 off must not take it from the lab.
    for scope in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
        if Path::new(&path).exists() {
            fs::write(&path, "0")?;
        }
    }
    let netlink = Netlink::open()?;
    netlink.set_up(netlink.index("lo")?)
}
