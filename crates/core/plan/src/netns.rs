//! Which network namespace a resource lives in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The identity of a network namespace: device and inode of its file in nsfs. Holds no descriptor,
/// so it pins nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetnsId {
    /// `st_dev` of the namespace file.
    pub dev: u64,
    /// `st_ino` of the namespace file: the number shown by `readlink /proc/PID/ns/net`.
    pub ino: u64,
}

/// The place of a resource: the node's own namespace, where underlays live, or a workload's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Netns {
    /// The namespace in which the executor itself runs.
    Node,
    /// A workload's namespace.
    Id(NetnsId),
}

impl From<NetnsId> for Netns {
    fn from(id: NetnsId) -> Self {
        Self::Id(id)
    }
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.ino)
    }
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Id(id) => id.fmt(f),
        }
    }
}
