//! What a cell is made of.

use std::path::PathBuf;

use super::Cell;
use crate::wire::Bind;

/// Which network namespace a cell has.
#[derive(Debug, Clone)]
pub enum Network {
    /// A new one with only loopback, up.
    Own,
    /// That of another cell, as roles on a node share the node's.
    Of(Cell),
    /// The lab's own, where the underlay's bridge is.
    Lab,
}

/// The description of a cell to start.
#[derive(Debug, Clone)]
pub struct Spec {
    pub(crate) name: String,
    pub(crate) network: Network,
    pub(crate) own_processes: bool,
    pub(crate) binds: Vec<Bind>,
    pub(crate) logs: Option<PathBuf>,
    pub(crate) lab: String,
}

impl Spec {
    /// A cell with its own pid and mount namespace and the given network namespace.
    #[must_use]
    pub fn new(name: impl Into<String>, network: Network) -> Self {
        Self {
            name: name.into(),
            network,
            own_processes: true,
            binds: Vec::new(),
            logs: None,
            lab: String::new(),
        }
    }

    /// Shows a host path in the cell.
    #[must_use]
    pub fn bind(
        mut self,
        source: impl Into<PathBuf>,
        target: impl Into<PathBuf>,
        read_only: bool,
    ) -> Self {
        self.binds.push(Bind {
            source: source.into(),
            target: target.into(),
            read_only,
        });
        self
    }

    /// Leaves the cell in the lab's pid namespace: for what attests other cells' processes, which
    /// must see their numbers.
    #[must_use]
    pub fn sees_all_processes(mut self) -> Self {
        self.own_processes = false;
        self
    }

    /// Processes without an output of their own write to a file in this folder.
    #[must_use]
    pub fn logs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.logs = Some(folder.into());
        self
    }

    /// The lab's name, which every process of the cell carries in its environment.
    #[must_use]
    pub(crate) fn lab(mut self, name: impl Into<String>) -> Self {
        self.lab = name.into();
        self
    }
}
