//! A lab: nodes on an underlay, all of it removed together.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cell::{Cell, Network, Spec};
use crate::enter::entered;
use crate::error::LabError;
use crate::leftovers;
use crate::node::Node;
use crate::pod::Pod;
use crate::signals::Interrupt;
use crate::sys;
use crate::underlay::Underlay;

/// MTU of the underlay unless said otherwise: Ethernet's.
pub const MTU: u32 = 1500;
/// The kernel frees a namespace, and delivers the death signal of a process tied to its parent, a
/// little after the death.
const SETTLE: Duration = Duration::from_secs(2);
/// How often `down` looks whether that has happened.
const LOOK: Duration = Duration::from_millis(2);
/// Longest name of a node or pod: a host name label and a folder name.
const NAME_MAX: usize = 63;

/// What a lab is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// MTU of the links between the nodes, in bytes.
    pub mtu: u32,
    /// Where the lab's folder is made.
    pub parent: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mtu: MTU,
            parent: std::env::temp_dir(),
        }
    }
}

/// A lab. Cloning gives another handle; the last one dropped takes the lab down.
#[derive(Debug, Clone)]
pub struct Lab(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    root: PathBuf,
    underlay: Underlay,
    cells: Mutex<Vec<Cell>>,
    nodes: Mutex<BTreeMap<String, Node>>,
    down: AtomicBool,
    /// Held while the lab is taken down: whoever asks meanwhile waits.
    ending: Mutex<()>,
}

impl Lab {
    /// Makes the lab's folder (mode 0700) and the underlay's bridge in the process's own network
    /// namespace.
    ///
    /// # Errors
    /// [`LabError::NotEntered`] outside a lab's namespaces; else what could not be made.
    pub fn new(config: &Config) -> Result<Self, LabError> {
        if !entered() {
            return Err(LabError::NotEntered);
        }
        let id = sys::random_id().map_err(|e| LabError::file("read", "/dev/urandom", e))?;
        let root = config.parent.join(format!("nsm-lab-{id}"));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&root);
        made.map_err(|e| LabError::file("create the lab's folder", &root, e))?;
        let underlay =
            Underlay::new(&id, config.mtu).inspect_err(|_| drop(std::fs::remove_dir_all(&root)))?;
        let lab = Self(Arc::new(Inner {
            id,
            root,
            underlay,
            cells: Mutex::default(),
            nodes: Mutex::default(),
            down: AtomicBool::new(false),
            ending: Mutex::default(),
        }));
        lab.folder(&lab.logs())?;
        Ok(lab)
    }

    /// The lab's name: 16 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The lab's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Where processes without another output write.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.0.root.join("logs")
    }

    /// Adds a node: a network namespace on the underlay, a socket folder and an identity folder.
    ///
    /// # Errors
    /// [`LabError::Invalid`] for a name that is taken or cannot be a host name; else what could not
    /// be made.
    pub fn node(&self, name: &str) -> Result<Node, LabError> {
        check_name(name)?;
        if lock(&self.0.nodes).contains_key(name) {
            return Err(LabError::Invalid {
                field: "node",
                value: name.to_owned(),
                reason: "there is one already",
            });
        }
        let node = Node::new(self, name)?;
        lock(&self.0.nodes).insert(name.to_owned(), node.clone());
        Ok(node)
    }

    /// The nodes by name.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        lock(&self.0.nodes).values().cloned().collect()
    }

    /// Starts a cell for a role on a node: it shares the node's network namespace and may create
    /// sockets in its folder.
    ///
    /// # Errors
    /// As [`Cell::start`].
    pub fn role(
        &self,
        node: &Node,
        name: &str,
        configure: impl FnOnce(Spec) -> Spec,
    ) -> Result<Cell, LabError> {
        self.start(configure(node.role(name)))
    }

    /// Starts a pod on a node: namespaces of its own; the node's sockets visible, only its own
    /// folder among them writable.
    ///
    /// # Errors
    /// As [`Cell::start`].
    pub fn pod(
        &self,
        node: &Node,
        name: &str,
        configure: impl FnOnce(Spec) -> Spec,
    ) -> Result<Pod, LabError> {
        check_name(name)?;
        self.folder(&node.socket_folder().join(name))?;
        Ok(Pod::new(
            node.clone(),
            self.start(configure(node.pod(name)))?,
        ))
    }

    /// Starts a cell in the lab's own network and pid namespace, for what must see every process:
    /// the identity agents.
    ///
    /// # Errors
    /// As [`Cell::start`].
    pub fn overseer(
        &self,
        name: &str,
        configure: impl FnOnce(Spec) -> Spec,
    ) -> Result<Cell, LabError> {
        self.start(configure(
            Spec::new(name, Network::Lab).sees_all_processes(),
        ))
    }

    /// Starts any cell as a part of this lab.
    ///
    /// # Errors
    /// As [`Cell::start`].
    pub fn start(&self, spec: Spec) -> Result<Cell, LabError> {
        check_name(&spec.name)?;
        let spec = if spec.logs.is_some() {
            spec
        } else {
            spec.logs(self.logs())
        };
        let cell = Cell::start(spec.lab(self.id()))?;
        let mut cells = lock(&self.0.cells);
        cells.retain(Cell::alive);
        cells.push(cell.clone());
        drop(cells);
        if self.0.down.load(Ordering::SeqCst) {
            cell.kill();
        }
        Ok(cell)
    }

    /// Takes the lab down when the process is asked to end, on the interrupt's own thread.
    pub fn down_on(&self, interrupt: &Interrupt) {
        let inner = Arc::downgrade(&self.0);
        interrupt.on_raise(move || {
            if let Some(inner) = inner.upgrade() {
                inner.down();
            }
        });
    }

    /// Ends every process, namespace, link and file of the lab; returns what is left nevertheless.
    /// Doing it twice is fine.
    pub fn down(&self) -> Vec<String> {
        self.0.down();
        let deadline = Instant::now() + SETTLE;
        loop {
            let left = self.leftovers();
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// What there is of this lab: processes, links in the lab's own namespace, mounts, files; one
    /// line each.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        leftovers::find(&self.0.id, &self.0.root, self.0.underlay.name())
    }

    pub(crate) fn underlay(&self) -> &Underlay {
        &self.0.underlay
    }

    pub(crate) fn folder(&self, path: &Path) -> Result<(), LabError> {
        std::fs::create_dir_all(path).map_err(|e| LabError::file("create folder", path, e))
    }
}

impl Inner {
    fn down(&self) {
        let _ending = lock(&self.ending);
        self.down.store(true, Ordering::SeqCst);
        lock(&self.nodes).clear();
        let cells = std::mem::take(&mut *lock(&self.cells));
        std::thread::scope(|scope| {
            for cell in &cells {
                scope.spawn(|| cell.kill());
            }
        });
        drop(cells);
        self.underlay.remove();
        if let Err(error) = std::fs::remove_dir_all(&self.root)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, root = %self.root.display(), "the lab's folder cannot be removed");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.down();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking thread left is still what has to be removed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn check_name(name: &str) -> Result<(), LabError> {
    let good = name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    if good {
        return Ok(());
    }
    let reason = "must be 1 to 63 letters, digits, dots or dashes and start with a letter or digit";
    Err(LabError::Invalid {
        field: "name",
        value: name.to_owned(),
        reason,
    })
}
