//! A pod of a lab.

use crate::cell::Cell;
use crate::node::Node;

/// A pod: a cell with namespaces of its own on a node.
#[derive(Debug, Clone)]
pub struct Pod {
    node: Node,
    cell: Cell,
}

impl Pod {
    pub(crate) fn new(node: Node, cell: Cell) -> Self {
        Self { node, cell }
    }

    /// The pod's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.cell.name()
    }

    /// The node it is on.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its cell.
    #[must_use]
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// Kills every process of the pod at once; its namespaces go with them unless somebody holds a
    /// descriptor.
    pub fn kill(&self) {
        self.cell.kill();
    }
}
