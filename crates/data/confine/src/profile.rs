//! What each kind of process keeps. The page docs/security.md shows the same table.

use rustix::thread::CapabilitySet;

/// A kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// A domain's registry.
    Registry,
    /// A node's manager.
    Manager,
    /// A node's forwarder.
    Forwarder,
    /// An endpoint at the end of connections.
    Endpoint,
    /// An endpoint in the middle of them.
    Passthrough,
    /// A client.
    Client,
    /// The built-in authority, and a node's identity agent.
    Agent,
}

/// A capability that a process keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// One bit.
    pub capability: CapabilitySet,
    /// As capabilities(7) writes it.
    pub name: &'static str,
    /// What fails without it.
    pub reason: &'static str,
    /// Nobody has to give it: there is another way, most of the time.
    pub optional: bool,
}

/// System calls beyond those that every role needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    /// Sockets to the kernel's network configuration.
    Netlink,
    /// Entering, making and finding again network namespaces.
    Namespaces,
    /// Holding on to the process of a caller.
    Processes,
}

const FORWARDER: &[Right] = &[
    Right {
        capability: CapabilitySet::NET_ADMIN,
        name: "CAP_NET_ADMIN",
        reason: "makes links, addresses, routes and sysctls in the node's and in workloads' namespaces",
        optional: false,
    },
    Right {
        capability: CapabilitySet::SYS_ADMIN,
        name: "CAP_SYS_ADMIN",
        reason: "enters workloads' network namespaces, makes the one that keeps tunnels' sockets, \
                 and opens a namespace again by its file handle",
        optional: false,
    },
    Right {
        capability: CapabilitySet::NET_BROADCAST,
        name: "CAP_NET_BROADCAST",
        reason: "hears of links and namespaces that go away, in every namespace from one socket",
        optional: false,
    },
    Right {
        capability: CapabilitySet::NET_RAW,
        name: "CAP_NET_RAW",
        reason: "asks other nodes by echoes, where `net.ipv4.ping_group_range` does not let it",
        optional: true,
    },
];

const PASSTHROUGH: &[Right] = &[Right {
    capability: CapabilitySet::NET_ADMIN,
    name: "CAP_NET_ADMIN",
    reason: "makes bridges and packet filters in its own network namespace",
    optional: false,
}];

const CLIENT: &[Right] = &[Right {
    capability: CapabilitySet::NET_RAW,
    name: "CAP_NET_RAW",
    reason: "asks the other end of a connection by an echo, where `net.ipv4.ping_group_range` does not let it",
    optional: true,
}];

const AGENT: &[Right] = &[Right {
    capability: CapabilitySet::SYS_PTRACE,
    name: "CAP_SYS_PTRACE",
    reason: "reads which program a caller of another user runs, and in which namespaces",
    optional: false,
}];

impl Profile {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Registry,
        Self::Manager,
        Self::Forwarder,
        Self::Endpoint,
        Self::Passthrough,
        Self::Client,
        Self::Agent,
    ];

    /// The capabilities that it keeps, where it has them.
    #[must_use]
    pub fn rights(self) -> &'static [Right] {
        match self {
            Self::Registry | Self::Manager | Self::Endpoint => &[],
            Self::Client => CLIENT,
            Self::Forwarder => FORWARDER,
            Self::Passthrough => PASSTHROUGH,
            Self::Agent => AGENT,
        }
    }

    /// The system calls that it keeps beyond everybody's.
    pub(crate) fn more(self) -> &'static [More] {
        match self {
            Self::Registry | Self::Manager | Self::Endpoint | Self::Client => &[],
            Self::Forwarder => &[More::Netlink, More::Namespaces],
            Self::Passthrough => &[More::Netlink],
            Self::Agent => &[More::Processes],
        }
    }
}
