//! What stands on the stage: a mesh, gateways, a firewall between them and whoever asks.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use nsm_lab::{
    Cell, Exit, IDENTITY_FOLDER, Lab, Output, Process, Run, SOCKET_FOLDER,
    mesh::{Mesh, MeshConfig, MeshNode, Workload},
    serve,
};
use serde::Deserialize;

/// The services' file, as a person would apply it.
pub(crate) const SERVICES: &str = include_str!("../../../../examples/secure-intranet.yaml");
/// The firewall's rules.
const RULES: &str = include_str!("../../../../examples/firewall.yaml");
const RULES_FILE: &str = "firewall.yaml";
/// Where the operator's cell shows the files that are applied.
const OPERATOR_FILES: &str = "/run/files";
/// The service of [`SERVICES`].
pub(crate) const SERVICE: &str = "secure-intranet";
/// Every gateway offers the same addresses, so that a client keeps its own when it gets another.
const PREFIX: &str = "172.16.1.0/24";
/// Of the plain service.
const PLAIN_PREFIX: &str = "172.16.2.0/24";
/// Ports of the server in each gateway's pod: TCP that the firewall allows, TCP that it denies, and
/// UDP that it allows.
pub(crate) const ALLOWED_PORT: u16 = 80;
pub(crate) const DENIED_PORT: u16 = 8080;
pub(crate) const ECHO_PORT: u16 = 7;
/// What roles log when they are ready.
const READY: &str = "Startup completed";
pub(crate) const CONNECTED: &str = "successfully connected";
/// A tool that takes longer has lost its way: a debug build's takes 100 ms.
const TOOL_PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) mesh: Mesh,
    operator: Cell,
    workloads: BTreeMap<String, Workload>,
    servers: Vec<Process>,
    tools: AtomicUsize,
}

/// A connection, as `nsm get connections -o json` tells.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Connection {
    pub(crate) client: String,
    pub(crate) state: String,
    pub(crate) hops: Vec<String>,
}

/// What a client logged when it was connected.
#[derive(Debug, Clone)]
pub(crate) struct Connected {
    /// The other end's address.
    pub(crate) peer: std::net::IpAddr,
    pub(crate) took_ms: f64,
}

#[derive(Deserialize)]
struct Line {
    fields: Fields,
}

#[derive(Deserialize)]
struct Fields {
    message: String,
    #[serde(default)]
    peers: String,
    #[serde(default)]
    took_ms: f64,
}

impl Stage {
    /// The mesh, and a place for operators.
    pub(crate) fn up(lab: &Lab, nodes: usize, log_level: &str) -> anyhow::Result<Self> {
        let names: Vec<String> = (1..=nodes).map(|number| format!("node-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let config = MeshConfig {
            log_level: log_level.to_owned(),
            ..MeshConfig::default()
        };
        let mesh = Mesh::up(lab, &names, config).context("starting the mesh")?;
        let first = mesh.node(0);
        let files = lab.root().join("files");
        fs::create_dir(&files).with_context(|| files.display().to_string())?;
        let operator = lab.role(first.node(), "operator", |spec| {
            spec.bind(&files, OPERATOR_FILES, true)
        })?;
        first.enroll(&operator, "operator")?;
        Ok(Self {
            lab: lab.clone(),
            operator,
            mesh,
            workloads: BTreeMap::new(),
            servers: Vec::new(),
            tools: AtomicUsize::new(0),
        })
    }

    /// The plain service `hello` of one endpoint on the first node.
    pub(crate) fn hello(&mut self) -> anyhow::Result<()> {
        let run = endpoint("hello").env("NSM_CIDR_PREFIX", PLAIN_PREFIX);
        self.run(0, "hello", run, READY)
    }

    /// The services of the file, by `nsm apply`.
    pub(crate) fn services(&self) -> anyhow::Result<()> {
        let name = "secure-intranet.yaml";
        write(&self.lab.root().join("files").join(name), SERVICES)?;
        self.tool(&["apply", "-f", &format!("{OPERATOR_FILES}/{name}")])
            .map(drop)
    }

    /// A gateway on each node, with a server in its pod.
    pub(crate) fn gateways(&mut self) -> anyhow::Result<()> {
        for at in 0..self.mesh.nodes().len() {
            let name = format!("gateway-{}", at + 1);
            let run = endpoint(SERVICE)
                .env("NSM_REGISTER_SERVICE", "false")
                .env("NSM_LABELS", "app:gateway")
                .env("NSM_CIDR_PREFIX", PREFIX);
            self.run(at, &name, run, READY)?;
            let server = serve::start(
                self.cell(&name)?,
                &[ALLOWED_PORT, DENIED_PORT],
                &[ECHO_PORT],
            )?;
            self.servers.push(server);
        }
        Ok(())
    }

    /// The firewall on the first node.
    pub(crate) fn firewall(&mut self) -> anyhow::Result<()> {
        let name = "firewall";
        let folder = self.mesh.node(0).node().socket_folder().join(name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        write(&folder.join(RULES_FILE), RULES)?;
        let run = endpoint(SERVICE)
            .env("NSM_REGISTER_SERVICE", "false")
            .env("NSM_LABELS", "app:firewall")
            .env("NSM_PASSTHROUGH", "true")
            .env("NSM_FILTER", format!("{SOCKET_FOLDER}/{name}/{RULES_FILE}"));
        self.run(0, name, run, READY)
    }

    /// A client on the node at this place.
    pub(crate) fn client(
        &mut self,
        at: usize,
        name: &str,
        service: &str,
    ) -> anyhow::Result<Connected> {
        let run = Run::nsm(["client"])
            .env("NSM_LOG_FORMAT", "json")
            .env("NSM_NETWORK_SERVICES", format!("kernel://{service}/nsm-1"));
        self.run(at, name, run, CONNECTED)?;
        let log = &self.workload(name)?.log;
        let text = fs::read_to_string(log).with_context(|| log.display().to_string())?;
        connected(&text).with_context(|| format!("what {name} logged ({})", log.display()))
    }

    /// Tells a workload to end, waits, and removes its pod.
    pub(crate) fn end(&mut self, name: &str) -> anyhow::Result<()> {
        let workload = self.workload(name)?;
        let ended = workload.process.stop(TOOL_PATIENCE);
        workload.pod.kill();
        self.workloads.remove(name);
        ensure!(
            ended == Some(Exit::Code(0)),
            "{name} did not end as it should: {ended:?}"
        );
        Ok(())
    }

    /// Kills a workload's pod: every process, and the namespaces.
    pub(crate) fn kill(&self, name: &str) -> anyhow::Result<()> {
        self.workload(name)?.pod.kill();
        Ok(())
    }

    /// The connection of a client, as the managers tell.
    pub(crate) fn connection(&self, client: &str) -> anyhow::Result<Connection> {
        let text = self.tool(&["get", "connections", "-o", "json"])?;
        let all: Vec<Connection> =
            serde_json::from_str(&text).context("reading `nsm get connections -o json`")?;
        let found = all.into_iter().find(|one| one.client == client);
        found.with_context(|| format!("no manager tells of a connection of {client}"))
    }

    /// Runs a tool of ours as an operator, and returns what it wrote.
    pub(crate) fn tool(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let number = self.tools.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (
            self.lab.logs().join(format!("tool-{number}.out")),
            self.lab.logs().join(format!("tool-{number}.err")),
        );
        let mut run = Run::nsm(arguments.iter().copied())
            .stdout(Output::File(out.clone()))
            .stderr(Output::File(err.clone()));
        for (key, value) in self.environment() {
            run = run.env(key, value);
        }
        let ended = self.operator.spawn(run)?.wait(TOOL_PATIENCE);
        if ended == Some(Exit::Code(0)) {
            return fs::read_to_string(&out).with_context(|| out.display().to_string());
        }
        let said = fs::read_to_string(&err).unwrap_or_default();
        bail!(
            "nsm {}: {ended:?}: {}",
            arguments.join(" "),
            said.trim_end()
        )
    }

    /// What a tool needs in its environment to find the mesh.
    pub(crate) fn environment(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            (
                "SPIFFE_ENDPOINT_SOCKET",
                format!("unix://{IDENTITY_FOLDER}/agent.sock"),
            ),
            ("NSM_REGISTRY_URL", self.mesh.registry_url()),
            ("NSM_CONNECT_TO", nsm_lab::mesh::manager_url()),
        ])
    }

    /// A pod's cell.
    pub(crate) fn cell(&self, name: &str) -> anyhow::Result<&Cell> {
        Ok(self.workload(name)?.pod.cell())
    }

    /// The node that a workload is on.
    pub(crate) fn node_of(&self, name: &str) -> anyhow::Result<&str> {
        Ok(self.workload(name)?.pod.node().name())
    }

    /// Every cell that somebody may want to look into, by its name.
    pub(crate) fn cells(&self) -> Vec<Cell> {
        let nodes = self.mesh.nodes().iter();
        let pods = self.workloads.values();
        nodes
            .map(|node| node.node().cell().clone())
            .chain(pods.map(|one| one.pod.cell().clone()))
            .chain([self.operator.clone()])
            .collect()
    }

    fn workload(&self, name: &str) -> anyhow::Result<&Workload> {
        let found = self.workloads.get(name);
        found.with_context(|| format!("nothing named {name:?} runs here"))
    }

    fn run(&mut self, at: usize, name: &str, run: Run, ready: &str) -> anyhow::Result<()> {
        let node: &MeshNode = self.mesh.node(at);
        let workload = self.mesh.run(node, name, run, ready)?;
        self.workloads.insert(name.to_owned(), workload);
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn endpoint(service: &str) -> Run {
    Run::nsm(["endpoint"])
        .env("NSM_SERVICE_NAMES", service)
        .env("NSM_LISTEN_ON", "unix:///run/nse/nse.sock")
}

/// Reads the line that people's scripts wait for.
fn connected(log: &str) -> anyhow::Result<Connected> {
    let fields = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok())
        .map(|line| line.fields)
        .find(|fields| fields.message == CONNECTED)
        .with_context(|| format!("has no line {CONNECTED:?}"))?;
    let first = fields.peers.split([',', '/']).next().unwrap_or_default();
    let peer = first
        .parse()
        .with_context(|| format!("peers {:?}", fields.peers))?;
    Ok(Connected {
        peer,
        took_ms: fields.took_ms,
    })
}

impl Connected {
    /// A port at the other end.
    pub(crate) fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.peer, port)
    }
}
