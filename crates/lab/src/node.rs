//! A node of a lab: a network namespace on the underlay that its roles share, and the folders its
//! pods see.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cell::{Cell, Network, Spec};
use crate::error::LabError;
use crate::lab::Lab;
use crate::underlay::Addresses;

/// Where a cell finds the manager's socket (`nsm.io.sock`), and a pod a writable folder of its own
/// name.
pub const SOCKET_FOLDER: &str = "/run/nsm";
/// Where a cell finds the identity agent's socket.
pub const IDENTITY_FOLDER: &str = "/run/spiffe";

/// A node. Cloning gives another handle.
#[derive(Debug, Clone)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    cell: Cell,
    addresses: Addresses,
    folder: PathBuf,
}

impl Node {
    pub(crate) fn new(lab: &Lab, name: &str) -> Result<Self, LabError> {
        let folder = lab.root().join(name);
        for part in ["nsm", "spiffe"] {
            lab.folder(&folder.join(part))?;
        }
        let cell = lab.start(Spec::new(name, Network::Own))?;
        let addresses = lab.underlay().connect(&cell)?;
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            cell,
            addresses,
            folder,
        })))
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The cell that holds the node's network namespace.
    #[must_use]
    pub fn cell(&self) -> &Cell {
        &self.0.cell
    }

    /// The node's addresses on the underlay.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.0.addresses
    }

    /// The node's folder on the machine.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// The folder that is [`SOCKET_FOLDER`] in the node's cells.
    #[must_use]
    pub fn socket_folder(&self) -> PathBuf {
        self.0.folder.join("nsm")
    }

    /// The folder that is [`IDENTITY_FOLDER`] in the node's cells, read-only there.
    #[must_use]
    pub fn identity_folder(&self) -> PathBuf {
        self.0.folder.join("spiffe")
    }

    /// A cell for a role on this node: the node's network namespace, its own pid and mount
    /// namespace, the sockets writable.
    pub(crate) fn role(&self, name: &str) -> Spec {
        Spec::new(name, Network::Of(self.0.cell.clone()))
            .bind(self.socket_folder(), SOCKET_FOLDER, false)
            .bind(self.identity_folder(), IDENTITY_FOLDER, true)
    }

    /// A cell for a pod on this node: namespaces of its own, the sockets read-only except the
    /// folder of its own name.
    pub(crate) fn pod(&self, name: &str) -> Spec {
        Spec::new(name, Network::Own)
            .bind(self.socket_folder(), SOCKET_FOLDER, true)
            .bind(
                self.socket_folder().join(name),
                Path::new(SOCKET_FOLDER).join(name),
                false,
            )
            .bind(self.identity_folder(), IDENTITY_FOLDER, true)
    }
}
