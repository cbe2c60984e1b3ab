//! How many heaps a process has.

#![allow(unsafe_code)]

/// glibc gives each thread that allocates an arena of its own, up to eight a core. What a role
/// keeps lives for a lease or a connection, and what is made on the way is mostly freed by another
/// thread: the holes of sixteen arenas add up, and grow for hours at the same amount of memory in
/// use. One is shared by two threads that work and others that rarely do; small pieces are cached a
/// thread in any case.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 1;

/// Keeps to so many from now on; to be called while there is one thread.
pub(crate) fn limit() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number; nobody else allocates meanwhile, since there is one thread.
    let _unless_it_is_no_glibc = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
}
