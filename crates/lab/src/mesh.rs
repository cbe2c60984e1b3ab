//! A whole mesh on the stage: an authority, a registry, and on every node an identity agent, a
//! manager and a forwarder, each a process with an identity of its own.

mod agent;
mod config;
mod files;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::Exit;
use crate::cell::{Cell, Process, Run, Spec};
use crate::error::LabError;
use crate::lab::Lab;
use crate::node::{IDENTITY_FOLDER, Node, SOCKET_FOLDER};
use crate::pod::Pod;
pub use config::{MeshConfig, Program};
use files::{said, wait, write};

/// The trust domain of every lab.
pub const TRUST_DOMAIN: &str = "nsm.lab";
/// Upstream's ports.
const REGISTRY_PORT: u16 = 5002;
const MANAGER_PORT: u16 = 5001;
const AUTHORITY_PORT: u16 = 5010;
/// The line that every role logs when it is ready; case aside, as the Go implementation has both.
const READY: &str = "Startup completed";
/// How long a role may take to end in good order.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Where a role finds what it kept before it was started again.
const STATE_FOLDER: &str = "/run/state";

/// One node's roles.
#[derive(Debug)]
pub struct MeshNode {
    node: Node,
    entries: Mutex<Vec<(String, u64)>>,
    agent: Mutex<Process>,
    roles: Mutex<BTreeMap<&'static str, (Cell, Process)>>,
}

/// A mesh that stands.
#[derive(Debug)]
pub struct Mesh {
    lab: Lab,
    config: MeshConfig,
    nodes: Vec<MeshNode>,
}

/// A program of ours in a pod.
#[derive(Debug)]
pub struct Workload {
    /// Where it runs.
    pub pod: Pod,
    /// The program.
    pub process: Process,
    /// Its log.
    pub log: PathBuf,
}

impl Mesh {
    /// Starts everything; the registry runs on the first node.
    ///
    /// # Errors
    /// What could not be started, or was not ready in time: with the end of its log.
    pub fn up(lab: &Lab, names: &[&str], config: MeshConfig) -> Result<Self, LabError> {
        let mut mesh = Self {
            lab: lab.clone(),
            config,
            nodes: Vec::new(),
        };
        for (at, name) in names.iter().enumerate() {
            let node = lab.node(name)?;
            let agent = Mutex::new(mesh.agent(&node, at)?);
            let roles = Mutex::default();
            mesh.nodes.push(MeshNode {
                node,
                entries: Mutex::default(),
                agent,
                roles,
            });
        }
        mesh.registry()?;
        for node in &mesh.nodes {
            mesh.manager(node)?;
        }
        for node in &mesh.nodes {
            mesh.forwarder(node)?;
        }
        Ok(mesh)
    }

    /// The lab that it stands in.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The node at this place.
    ///
    /// # Panics
    /// There are fewer nodes.
    #[must_use]
    pub fn node(&self, at: usize) -> &MeshNode {
        &self.nodes[at]
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[MeshNode] {
        &self.nodes
    }

    /// Where the registry is.
    #[must_use]
    pub fn registry_url(&self) -> String {
        format!(
            "tcp://{}:{REGISTRY_PORT}",
            self.nodes[0].node.addresses().v4
        )
    }

    /// Starts again what [`MeshNode::kill`] ended: `ca`, `registry`, `manager` or `forwarder`.
    ///
    /// # Errors
    /// As [`Mesh::up`]; [`LabError::Invalid`] for another role.
    pub fn start(&self, node: &MeshNode, role: &str) -> Result<(), LabError> {
        match role {
            "ca" => {
                let agent = self.agent(&node.node, self.place(node))?;
                *node.agent.lock().unwrap_or_else(PoisonError::into_inner) = agent;
                Ok(())
            }
            "registry" => self.registry(),
            "manager" => self.manager(node),
            "forwarder" => self.forwarder(node),
            other => Err(LabError::Invalid {
                field: "role",
                value: other.to_owned(),
                reason: "must be ca, registry, manager or forwarder",
            }),
        }
    }

    /// Starts, or starts again, the registry; what it stored is in its node's folder.
    ///
    /// # Errors
    /// As [`Mesh::up`].
    pub fn registry(&self) -> Result<(), LabError> {
        let node = &self.nodes[0];
        let run = self
            .program("registry", 0)
            .env("NSM_LISTEN_ON", self.registry_url())
            .env("NSM_STORE", format!("{STATE_FOLDER}/registry.redb"));
        self.role(node, "registry", run)
    }

    /// Starts, or starts again, a node's manager.
    ///
    /// # Errors
    /// As [`Mesh::up`].
    pub fn manager(&self, node: &MeshNode) -> Result<(), LabError> {
        let listen = format!(
            "unix://{SOCKET_FOLDER}/nsm.io.sock,tcp://{}:{MANAGER_PORT}",
            node.node.addresses().v4
        );
        let run = self
            .program("manager", self.place(node))
            .env("NSM_LISTEN_ON", listen)
            .env("NSM_REGISTRY_URL", self.registry_url());
        self.role(node, "manager", run)
    }

    /// Starts, or starts again, a node's forwarder.
    ///
    /// # Errors
    /// As [`Mesh::up`].
    pub fn forwarder(&self, node: &MeshNode) -> Result<(), LabError> {
        self.forwarder_with(node, &[])
    }

    /// As [`Mesh::forwarder`], with more environment.
    ///
    /// # Errors
    /// As [`Mesh::up`].
    pub fn forwarder_with(&self, node: &MeshNode, env: &[(&str, &str)]) -> Result<(), LabError> {
        let addresses = node.node.addresses();
        let tunnel = if self.config.ipv6_underlay {
            addresses.v6.to_string()
        } else {
            addresses.v4.to_string()
        };
        let run = self
            .program("forwarder", self.place(node))
            .env("NSM_CONNECT_TO", manager_url())
            .env("NSM_LISTEN_ON", "unix:///run/forwarder/forwarder.sock")
            .env("NSM_TUNNEL_IP", tunnel);
        let run = env
            .iter()
            .fold(run, |run, (key, value)| run.env(*key, *value));
        self.role(node, "forwarder", run)
    }

    /// The place of a node among all.
    fn place(&self, node: &MeshNode) -> usize {
        let same = |one: &MeshNode| one.node.name() == node.node.name();
        self.nodes.iter().position(same).unwrap_or_default()
    }

    /// What plays a role there.
    fn program(&self, role: &'static str, at: usize) -> Run {
        let other = self.config.others.get(&(role, at));
        other.map_or_else(|| Run::nsm([role]), Program::run)
    }

    fn role(&self, node: &MeshNode, role: &'static str, run: Run) -> Result<(), LabError> {
        let name = format!("{role}-{}", node.node.name());
        // Outlives the process, as a node's disk does.
        let state = node.node.folder().join("state").join(role);
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&state);
        made.map_err(|e| LabError::file("create folder", &state, e))?;
        let shows = |spec: Spec| spec.bind(&state, STATE_FOLDER, false);
        let cell = self.lab.role(&node.node, &name, shows)?;
        node.enroll(&cell, &name)?;
        let log = self.log(&name);
        let said = said(&log);
        let run = run
            .env("NSM_NAME", &name)
            .env("NODE_NAME", node.node.name())
            .env("NSM_STATE_DIR", STATE_FOLDER)
            .log(&log);
        let process = cell.spawn(self.identified(run))?;
        wait(&process, &log, said, READY)?;
        let mut roles = node.roles.lock().unwrap_or_else(PoisonError::into_inner);
        roles.insert(role, (cell, process));
        Ok(())
    }

    /// Makes a pod, known to its node's agent by its processes.
    ///
    /// # Errors
    /// What could not be made.
    pub fn pod(&self, node: &MeshNode, name: &str) -> Result<Pod, LabError> {
        let pod = self.lab.pod(&node.node, name, |spec| spec)?;
        node.enroll(pod.cell(), name)?;
        Ok(pod)
    }

    /// Makes a cell in a node's own network, known to its agent by its processes: a peer that is
    /// no pod.
    ///
    /// # Errors
    /// What could not be made.
    pub fn stranger(&self, node: &MeshNode, name: &str) -> Result<Cell, LabError> {
        let cell = self.lab.role(&node.node, name, |spec| spec)?;
        node.enroll(&cell, name)?;
        Ok(cell)
    }

    /// Runs one of our programs in a pod of its own, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Mesh::up`].
    pub fn run(
        &self,
        node: &MeshNode,
        name: &str,
        run: Run,
        ready: &str,
    ) -> Result<Workload, LabError> {
        let pod = self.pod(node, name)?;
        self.run_in(pod, run, ready)
    }

    /// Runs one of our programs in a pod, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Mesh::up`].
    pub fn run_in(&self, pod: Pod, run: Run, ready: &str) -> Result<Workload, LabError> {
        let log = self.log(pod.name());
        let said = said(&log);
        let run = run
            .env("NSM_NAME", pod.name())
            .env("NODE_NAME", pod.node().name())
            .env("POD_NAME", pod.name())
            .env("NSM_CONNECT_TO", manager_url())
            .log(&log);
        let process = pod.cell().spawn(self.identified(run))?;
        wait(&process, &log, said, ready)?;
        Ok(Workload { pod, process, log })
    }

    fn identified(&self, run: Run) -> Run {
        let run = run.env(
            "SPIFFE_ENDPOINT_SOCKET",
            format!("unix://{IDENTITY_FOLDER}/agent.sock"),
        );
        self.level(run)
    }

    fn level(&self, mut run: Run) -> Run {
        for (key, value) in &self.config.env {
            run = run.env_unless(key, value);
        }
        match self.config.log_level.as_str() {
            "" => run.env("NSM_LOG_LEVEL", "INFO"),
            level => run.env("NSM_LOG_LEVEL", level),
        }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.lab.logs().join(format!("{name}.log"))
    }
}

/// Where a pod finds its node's manager.
#[must_use]
pub fn manager_url() -> String {
    format!("unix://{SOCKET_FOLDER}/nsm.io.sock")
}

impl MeshNode {
    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// A role's process: `registry`, `manager` or `forwarder`.
    #[must_use]
    pub fn role(&self, role: &str) -> Option<(Cell, u32)> {
        let roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        roles
            .get(role)
            .map(|(cell, process)| (cell.clone(), process.host_pid().unwrap_or(0)))
    }

    /// The identity agent's process; on the first node it is the root as well.
    #[must_use]
    pub fn agent(&self) -> Process {
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        agent.clone()
    }

    /// Ends a role, or the agent (`ca`), at once, as a crash does.
    pub fn kill(&self, role: &str) {
        if role == "ca" {
            self.agent().cell().kill();
            return;
        }
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cell, _)) = roles.remove(role) {
            cell.kill();
        }
    }

    /// Tells a role to end, as an upgrade does, and waits for it: how it ended, if it did in time.
    pub fn stop(&self, role: &str) -> Option<Exit> {
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        let (cell, process) = roles.remove(role)?;
        let exit = process.stop(STOP_GRACE);
        cell.kill();
        exit
    }

    /// Tells the node's agent that the processes of a cell are `spiffe://nsm.lab/<name>`.
    ///
    /// # Errors
    /// The agent's file of entries cannot be written.
    pub fn enroll(&self, cell: &Cell, name: &str) -> Result<(), LabError> {
        let id = format!("spiffe://{TRUST_DOMAIN}/{name}");
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // The kernel gives the number of a namespace that is gone to a later one.
        let processes = cell.namespaces().processes;
        entries.retain(|(known, other)| *known != id && *other != processes);
        entries.push((id, processes));
        let mut text = String::from("entries:\n");
        for (id, pid) in entries.iter() {
            let _infallible = writeln!(text, "  - id: {id}\n    selectors: {{ pidns: {pid} }}");
        }
        write(&self.node.folder().join("entries/entries.yaml"), &text)
    }
}
