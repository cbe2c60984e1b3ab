//! What can go wrong, in the operator's words.

use std::io;

use ipnet::IpNet;
use nsm_model::ifname::IfName;
use nsm_model::mechanism::Vni;
use nsm_plan::{Netns, NetnsId};

/// The kernel refused an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op} {object}: {}{}", io::Error::from_raw_os_error(*.errno), suffix(.hint))]
pub struct KernelError {
    /// What was tried, e.g. `add address`.
    pub op: &'static str,
    /// To what, e.g. `10.0.0.1/32 on nsm-1 in net:[4026532301]`.
    pub object: String,
    /// The kernel's error number.
    pub errno: i32,
    /// What the operator should do; empty where the error says it all.
    pub hint: &'static str,
}

impl KernelError {
    pub(crate) fn new(op: &'static str, object: impl Into<String>, errno: i32) -> Self {
        Self {
            op,
            object: object.into(),
            errno,
            hint: hint(errno),
        }
    }

    pub(crate) fn io(op: &'static str, object: impl Into<String>, error: &io::Error) -> Self {
        Self::new(op, object, error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// True when what should have been touched is not there: its link, address, route or namespace
    /// is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(
            self.errno,
            libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENXIO
        )
    }
}

fn hint(errno: i32) -> &'static str {
    match errno {
        libc::EPERM | libc::EACCES => {
            "needs CAP_NET_ADMIN in this network namespace, CAP_SYS_ADMIN to enter it and CAP_NET_BROADCAST to hear of others: run the forwarder as root or grant these"
        }
        libc::EROFS => {
            "/proc/sys is mounted read-only here: run the forwarder with a writable /proc/sys"
        }
        libc::EOPNOTSUPP => "this kernel lacks the feature: check that it has VETH, VXLAN and IPV6",
        libc::EMFILE | libc::ENFILE => "too many open files: raise the limit (LimitNOFILE)",
        libc::ENOBUFS | libc::ENOMEM => "the kernel is out of memory for this: retry later",
        _ => "",
    }
}

fn suffix(hint: &str) -> String {
    if hint.is_empty() {
        String::new()
    } else {
        format!(" ({hint})")
    }
}

/// A network namespace could not be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The descriptor is something else: a file, a socket, another kind of namespace.
    #[error("descriptor {what} is not a network namespace: pass one opened from /proc/PID/ns/net")]
    NotNetns {
        /// What the descriptor refers to, as far as it can be told.
        what: String,
    },
    /// The namespace does not exist any more.
    #[error("network namespace {0} is gone")]
    Gone(NetnsId),
    /// A system call on it failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The thread that was inside ended without an answer.
    #[error("the thread that worked inside {0} was lost: this is a bug, see the log")]
    Lost(String),
}

/// A plan could not be applied or undone.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Somebody else's interface has the wanted name.
    #[error(
        "interface name {name} is in use in {netns}: ask for another name or remove that interface"
    )]
    NameInUse {
        /// The wanted name.
        name: IfName,
        /// Where.
        netns: Netns,
    },
    /// Another device of this node has the VNI on that port, towards whatever peer.
    #[error("VNI {vni} is in use on port {port} of this node: ask again with another")]
    VniInUse {
        /// The refused identifier.
        vni: Vni,
        /// The UDP port.
        port: u16,
    },
    /// The namespace has such a route through another interface.
    #[error(
        "route {destination} is in use in {netns} through another interface: remove it there or from the service's context"
    )]
    RouteInUse {
        /// Its destination.
        destination: IpNet,
        /// Where.
        netns: Netns,
    },
    /// The plan names a namespace for which the caller gave no descriptor.
    #[error("no descriptor of {0} was given: the workload has to pass one with its request")]
    MissingNetns(NetnsId),
    /// A namespace could not be used.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The kernel refused something else.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}
