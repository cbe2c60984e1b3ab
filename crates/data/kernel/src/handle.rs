//! Finding a namespace again without holding a descriptor of it.
//!
//! A netlink message with `IFLA_TARGET_NETNSID` can list and delete links in another namespace, but
//! not change one (Linux answers ENODEV). Taking a link down needs a thread inside, so besides the
//! nsid we remember the namespace's file handle (nsfs, Linux 6.18): it can be opened again and pins
//! nothing. Where the kernel has none, a close deletes the link through the nsid and waits for it.

use std::os::fd::{FromRawFd, OwnedFd};

use nsm_plan::NetnsId;
use serde::{Deserialize, Serialize};

use crate::error::{KernelError, NetnsError};
use crate::netns::NetnsFd;

/// `include/uapi/linux/fcntl.h`: stands for the root of nsfs in `open_by_handle_at`.
const FD_NSFS_ROOT: libc::c_int = -10003;
/// `MAX_HANDLE_SZ`: the most a file handle can take.
const MAX_HANDLE: usize = 128;

/// A namespace's file handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsHandle {
    /// The kernel's type number of the handle.
    pub kind: i32,
    /// Its opaque bytes, at most 128.
    pub bytes: Vec<u8>,
}

/// What has to be remembered (and may be written to a journal) to work on a namespace later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsRef {
    /// Device and inode.
    pub id: NetnsId,
    /// Its number in the node's namespace; outlives our process.
    pub nsid: i32,
    /// Its file handle, where the kernel gives one.
    pub handle: Option<NetnsHandle>,
}

#[repr(C)]
struct RawHandle {
    len: libc::c_uint,
    kind: libc::c_int,
    bytes: [u8; MAX_HANDLE],
}

impl NetnsHandle {
    /// The handle of an open namespace; none on kernels before 6.18.
    #[must_use]
    pub fn of(netns: &NetnsFd) -> Option<Self> {
        let mut raw = RawHandle {
            len: MAX_HANDLE.try_into().ok()?,
            kind: 0,
            bytes: [0; MAX_HANDLE],
        };
        let mut mount = 0;
        // SAFETY: `raw` starts like `struct file_handle`, followed by as many bytes as `len` says;
        // the path is an empty, zero-terminated string; all pointers live for the length of the
        // call.
        let done = unsafe {
            libc::name_to_handle_at(
                netns.raw(),
                c"".as_ptr(),
                (&raw mut raw).cast(),
                &raw mut mount,
                libc::AT_EMPTY_PATH,
            )
        };
        let len = usize::try_from(raw.len).ok()?;
        (done == 0)
            .then(|| raw.bytes.get(..len))
            .flatten()
            .map(|bytes| Self {
                kind: raw.kind,
                bytes: bytes.to_vec(),
            })
    }

    /// Opens the namespace again.
    ///
    /// # Errors
    /// [`NetnsError::Gone`] when it does not exist any more.
    pub fn open(&self, id: NetnsId) -> Result<NetnsFd, NetnsError> {
        let object = id.to_string();
        let mut raw = RawHandle {
            len: 0,
            kind: self.kind,
            bytes: [0; MAX_HANDLE],
        };
        let room = raw.bytes.get_mut(..self.bytes.len());
        room.ok_or_else(|| KernelError::new("open namespace", object.clone(), libc::EINVAL))?
            .copy_from_slice(&self.bytes);
        raw.len = libc::c_uint::try_from(self.bytes.len()).unwrap_or(0);
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: `raw` is laid out as `struct file_handle` with `len` valid bytes behind it, and
        // lives for the length of the call.
        let fd = unsafe { libc::open_by_handle_at(FD_NSFS_ROOT, (&raw mut raw).cast(), flags) };
        if fd < 0 {
            let errno = std::io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO);
            return Err(match errno {
                libc::ESTALE | libc::ENOENT => NetnsError::Gone(id),
                _ => KernelError::new("open namespace", object, errno).into(),
            });
        }
        // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
        let netns = NetnsFd::new(unsafe { OwnedFd::from_raw_fd(fd) })?;
        // An inode number is used again after a namespace's death.
        if netns.id() == id {
            Ok(netns)
        } else {
            Err(NetnsError::Gone(id))
        }
    }
}
