//! The system calls that roles need, by what they need them for.
//!
//! Not on any list, so answered with ENOSYS: becoming or starting another program, tracing, reading
//! another process's memory, mounting, new namespaces of any kind but the forwarder's network
//! ones, kernel modules, keys, BPF, performance counters, io_uring, userfaultfd, changing user or
//! group, the clock, and everything newer than this list.
//!
//! Something new answers ENOSYS here and works with `NSM_SECCOMP=off`? Then `strace` names the
//! call, and it gets a line here if the role is to have it.

use libc::c_long;
use seccompiler::{
    BackendError,
    SeccompCmpArgLen::{Dword, Qword},
    SeccompCmpOp::{Eq, MaskedEq},
    SeccompCondition, SeccompRule,
};

use crate::{
    profile::{More, Profile},
    seccomp::Calls,
};

/// Files that are open, and their descriptors.
const FILES: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_getdents64,
    libc::SYS_pipe2,
];

/// Files by name: settings, keys, stores, socket files.
const PATHS: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_umask,
    libc::SYS_getcwd,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
];

/// The names that x86 has besides; libc uses them there.
#[cfg(target_arch = "x86_64")]
const OLD_NAMES: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_NAMES: &[c_long] = &[];

/// Sockets that are open. Of which families they are is asked when they are made.
const SOCKETS: &[c_long] = &[
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
];

/// Waiting, and the time.
const EVENTS: &[c_long] = &[
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
];

/// Threads, memory, signals, and asking about oneself.
const PROCESS: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_uname,
    libc::SYS_sysinfo,
];

/// `linux/nsfs.h`: the kind of a namespace file.
const NS_GET_NSTYPE: u64 = 0xb703;
/// `linux/prctl.h`: the allocator names its memory.
const PR_SET_VMA: u64 = 0x5356_4d41;
/// What a new thread shares and a new process does not.
const THREAD: u64 = flag(libc::CLONE_THREAD);
/// New namespaces of any kind: `CLONE_NEW*` of `linux/sched.h`.
const NAMESPACES: u64 = flag(libc::CLONE_NEWNS)
    | flag(libc::CLONE_NEWUTS)
    | flag(libc::CLONE_NEWIPC)
    | flag(libc::CLONE_NEWUSER)
    | flag(libc::CLONE_NEWPID)
    | flag(libc::CLONE_NEWNET)
    | flag(libc::CLONE_NEWCGROUP);
/// Memory that can be written and run.
const WRITE: u64 = flag(libc::PROT_WRITE);
const RUN: u64 = flag(libc::PROT_EXEC);

const fn flag(value: libc::c_int) -> u64 {
    value as u64
}

/// What a kind of process may call.
pub(crate) fn of(profile: Profile) -> Result<Calls, BackendError> {
    let plain = [FILES, PATHS, OLD_NAMES, SOCKETS, EVENTS, PROCESS].concat();
    let mut calls: Calls = plain.into_iter().map(|call| (call, Vec::new())).collect();
    let mut families = vec![libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    for more in profile.more() {
        match more {
            More::Netlink => families.push(libc::AF_NETLINK),
            More::Namespaces => {
                let network = flag(libc::CLONE_NEWNET);
                calls.insert(libc::SYS_setns, one_of(1, [network])?);
                calls.insert(libc::SYS_unshare, one_of(0, [network])?);
                calls.insert(libc::SYS_name_to_handle_at, Vec::new());
                calls.insert(libc::SYS_open_by_handle_at, Vec::new());
            }
            More::Processes => {
                calls.insert(libc::SYS_pidfd_open, Vec::new());
            }
        }
    }
    calls.insert(libc::SYS_socket, one_of(0, families.into_iter().map(flag))?);
    calls.insert(libc::SYS_socketpair, one_of(0, [flag(libc::AF_UNIX)])?);
    // libc goes back to this one where there is no clone3, whose flags a filter cannot see.
    let thread = one_of_masked(0, THREAD | NAMESPACES, [THREAD])?;
    calls.insert(libc::SYS_clone, thread);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let never_both = one_of_masked(2, WRITE | RUN, [0, WRITE, RUN])?;
        calls.insert(call, never_both);
    }
    let control = [
        libc::FIONBIO,
        libc::FIOCLEX,
        libc::FIONREAD,
        libc::TCGETS,
        NS_GET_NSTYPE,
    ];
    calls.insert(libc::SYS_ioctl, one_of(1, control)?);
    let own = [flag(libc::PR_SET_NAME), PR_SET_VMA];
    calls.insert(libc::SYS_prctl, one_of(0, own)?);
    // One's own limits; others' are nobody's business.
    calls.insert(libc::SYS_prlimit64, one_of(0, [0])?);
    Ok(calls)
}

/// The argument at this place is one of these values; the kernel looks at its lower half alone.
fn one_of(
    place: u8,
    values: impl IntoIterator<Item = u64>,
) -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |value| SeccompRule::new(vec![SeccompCondition::new(place, Dword, Eq, value)?]);
    values.into_iter().map(rule).collect()
}

/// The same of some of its bits.
fn one_of_masked(
    place: u8,
    mask: u64,
    values: impl IntoIterator<Item = u64>,
) -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |value| {
        let condition = SeccompCondition::new(place, Qword, MaskedEq(mask), value)?;
        SeccompRule::new(vec![condition])
    };
    values.into_iter().map(rule).collect()
}
