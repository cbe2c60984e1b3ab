//! What a mesh is like.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cell::Run;

/// What the roles of a mesh are told beyond the ordinary.
#[derive(Debug, Clone, Default)]
pub struct MeshConfig {
    /// The log level of every role.
    pub log_level: String,
    /// Tunnels over IPv6.
    pub ipv6_underlay: bool,
    /// More environment for every program, unless it is given its own.
    pub env: BTreeMap<String, String>,
    /// Programs in the place of ours, by role and by the node's place: they are given the same
    /// environment, and say that they are ready in the same words.
    pub others: BTreeMap<(&'static str, usize), Program>,
}

/// A program that plays a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

impl Program {
    /// A process of it.
    #[must_use]
    pub fn run(&self) -> Run {
        Run::program(&self.path, self.args.iter().map(String::as_str))
    }
}
