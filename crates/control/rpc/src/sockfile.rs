//! The file of a listening unix socket.

use std::{
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

/// Everybody on the node may knock: workloads run under any user, and the SVID decides.
const SOCKET_MODE: u32 = 0o777;

/// Removes the file when it goes, unless another process put its own there.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    /// Binds a socket at `path`: its folder is made; a socket file on which nobody listens is
    /// replaced, any other file is not. `AddrInUse` when somebody does.
    pub(crate) async fn bind(path: &Path) -> io::Result<(UnixListener, Self)> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let socket = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path).await?;
                UnixListener::bind(path)?
            }
            bound => bound?,
        };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
        let inode = std::fs::symlink_metadata(path)?.ino();
        Ok((
            socket,
            Self {
                path: path.to_owned(),
                inode,
            },
        ))
    }
}

async fn remove_stale(path: &Path) -> io::Result<()> {
    match UnixStream::connect(path).await {
        // On a plain file as well: the kernel does not tell the two apart.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            use std::os::unix::fs::FileTypeExt as _;
            if std::fs::symlink_metadata(path)?.file_type().is_socket() {
                return std::fs::remove_file(path);
            }
            Err(io::Error::other(
                "the file is no socket, so it is not replaced",
            ))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours {
            // The folder may be gone already.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl std::fmt::Display for SocketFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unix://{}", self.path.display())
    }
}
