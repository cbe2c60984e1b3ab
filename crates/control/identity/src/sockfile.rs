//! The file of a listening unix socket: whose it is, who may connect, and when it goes.

use std::{
    fmt, fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Gid, Mode, OFlags},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

/// Everybody on the node may knock: workloads run under any user, and the SVID decides.
pub const SOCKET_MODE: u32 = 0o666;

/// Folders that are made for a socket: others may look for it there, and put nothing beside it.
const FOLDER_MODE: u32 = 0o755;

/// Others may write in a folder, and only the sticky bit keeps them from replacing files there.
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Connections that wait to be accepted: a burst of a node's workloads.
const BACKLOG: i32 = 1024;

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permission bits; whoever may write may connect.
    pub mode: u32,
    /// The group of the file, else the process's own.
    pub group: Option<u32>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            mode: SOCKET_MODE,
            group: None,
        }
    }
}

/// Removes the file when it goes, unless another process put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// Listens at `path`, without blocking: its folder is made; a socket of our own user on which
    /// nobody listens is replaced, anything else is not. Nobody can connect before the file has its
    /// mode and group.
    ///
    /// # Errors
    /// `AddrInUse` when somebody listens there; else why not, and what to do.
    pub fn bind(path: &Path, access: &Access) -> io::Result<(UnixListener, Self)> {
        if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(FOLDER_MODE).create(folder)?;
            warn_of(folder)?;
        }
        remove_stale(path)?;
        let socket = unconnected()?;
        // The file gets the socket's mode, so it is never wider than asked for.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(access.mode))?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        let inode = set(path, access)?;
        let file = Self {
            path: path.to_owned(),
            inode,
        };
        rustix::net::listen(&socket, BACKLOG)?;
        Ok((UnixListener::from(socket), file))
    }
}

/// A folder in which anybody may replace the socket is somebody's mistake, though not always ours:
/// some orchestrators make such folders.
fn warn_of(folder: &Path) -> io::Result<()> {
    let mode = fs::metadata(folder)?.mode();
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        tracing::warn!(
            folder = %folder.display(),
            "everybody may replace files in the folder of a socket: chmod o-w it"
        );
    }
    Ok(())
}

fn unconnected() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other(
            "the file is no socket, so it is not replaced: remove it, or choose another path",
        ));
    }
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "the socket belongs to user {}, and this process runs as user {own}: stop who left it \
                 and remove it, or choose another path",
                found.uid()
            ),
        ));
    }
    match rustix::net::connect(unconnected()?, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Err(Errno::NOENT) => Ok(()),
        // AGAIN: so many wait there that there is no room.
        Ok(()) | Err(Errno::AGAIN) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error.into()),
    }
}

/// Gives the new file its group and mode, by a descriptor: what has the name may be exchanged.
fn set(path: &Path, access: &Access) -> io::Result<(u64, u64)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    if let Some(group) = access.group {
        let group_is = Some(Gid::from_raw(group));
        rustix::fs::chownat(&file, "", None, group_is, AtFlags::EMPTY_PATH).map_err(|error| {
            io::Error::new(
                io::Error::from(error).kind(),
                format!("giving the socket to group {group}: {error}; start this process as a member of it"),
            )
        })?;
    }
    let reference = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(reference, fs::Permissions::from_mode(access.mode))?;
    let found = rustix::fs::fstat(&file)?;
    Ok((found.st_dev, found.st_ino))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.inode) {
            // The folder may be gone already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl fmt::Display for SocketFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.path.display())
    }
}
