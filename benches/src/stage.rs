//! A mesh of the product in the lab, and clients in pods of their own.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nsm_lab::{
    Cell, Config, Lab, Output, Run,
    mesh::{Mesh, MeshConfig, Workload, manager_url},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::client::{READY, Report, SUBCOMMAND, Task};

/// Every bench's own mesh.
pub(crate) struct Stage {
    pub mesh: Mesh,
    /// Endpoints on the first and on the second node, of services `near` and `far`.
    pub endpoints: [Workload; 2],
    lab: Lab,
}

/// The services, by the node that their endpoint is on.
pub(crate) const SERVICES: [&str; 2] = ["near", "far"];
/// What each of them has to give away: some thousand pairs of addresses.
const POOLS: [&str; 2] = ["172.16.0.0/16", "172.17.0.0/16"];
/// The line that a role logs when it is ready.
const STARTED: &str = "Startup completed";

impl Stage {
    /// Two nodes, an endpoint on each.
    pub(crate) fn up() -> anyhow::Result<Self> {
        let lab = Lab::new(&Config::default())?;
        let config = MeshConfig {
            log_level: std::env::var("NSM_BENCH_LOG_LEVEL").unwrap_or_default(),
            ..MeshConfig::default()
        };
        let mesh = Mesh::up(&lab, &["node-1", "node-2"], config)?;
        let endpoint = |at: usize| {
            let run = Run::nsm(["endpoint"])
                .env("NSM_SERVICE_NAMES", SERVICES[at])
                .env("NSM_LISTEN_ON", "unix:///run/nse/nse.sock")
                .env("NSM_CIDR_PREFIX", POOLS[at]);
            mesh.run(
                mesh.node(at),
                &format!("nse-{}", SERVICES[at]),
                run,
                STARTED,
            )
        };
        let endpoints = [endpoint(0)?, endpoint(1)?];
        Ok(Self {
            mesh,
            endpoints,
            lab,
        })
    }

    /// A client on the first node, in a pod of its own.
    pub(crate) fn client(&self, name: &str, service: &str) -> anyhow::Result<Client> {
        self.program(SUBCOMMAND, name, service)
    }

    /// A program of ours that waits for tasks, on the first node, in a pod of its own.
    pub(crate) fn program(
        &self,
        subcommand: &str,
        name: &str,
        service: &str,
    ) -> anyhow::Result<Client> {
        program(&self.mesh, subcommand, name, service)
    }

    /// Every process of the product, by name, as we number it.
    pub(crate) fn processes(&self) -> Vec<(String, u32)> {
        let mut all = Vec::new();
        for node in self.mesh.nodes() {
            for role in ["registry", "manager", "forwarder"] {
                let name = format!("{role} of {}", node.node().name());
                all.extend(node.role(role).map(|(_, pid)| (name, pid)));
            }
            let name = format!("ca of {}", node.node().name());
            all.extend(node.agent().host_pid().map(|pid| (name, pid)));
        }
        for endpoint in &self.endpoints {
            let name = endpoint.pod.name().to_owned();
            all.extend(endpoint.process.host_pid().map(|pid| (name, pid)));
        }
        all
    }

    /// Where links of ours may be: nodes and endpoints' pods.
    pub(crate) fn cells(&self) -> Vec<Cell> {
        let nodes = self.mesh.nodes().iter().map(|node| node.node().cell());
        let pods = self.endpoints.iter().map(|endpoint| endpoint.pod.cell());
        nodes.chain(pods).cloned().collect()
    }

    /// Takes the mesh down.
    pub(crate) fn down(self) {
        let Self {
            mesh,
            endpoints,
            lab,
        } = self;
        for endpoint in &endpoints {
            let _ended = endpoint.process.stop(STOP);
        }
        drop((mesh, endpoints));
        lab.down();
    }
}

/// A program of ours that waits for tasks, on the first node, in a pod of its own.
pub(crate) fn program(
    mesh: &Mesh,
    subcommand: &str,
    name: &str,
    service: &str,
) -> anyhow::Result<Client> {
    let pod = mesh.pod(mesh.node(0), name)?;
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let (tasks, input) = rustix::pipe::pipe_with(flags)?;
    let (output, reports) = rustix::pipe::pipe_with(flags)?;
    let run = Run::nsm([subcommand])
        .env("NSM_NAME", name)
        .env("NSM_CONNECT_TO", manager_url())
        .env("NSM_BENCH_SERVICE", service)
        .env(
            "SPIFFE_ENDPOINT_SOCKET",
            format!("unix://{}/agent.sock", nsm_lab::IDENTITY_FOLDER),
        )
        .stdin(tasks)
        .stdout(Output::Fd(reports));
    let process = pod.cell().spawn(run)?;
    let workload = Workload {
        log: mesh.lab().logs().join(format!("{name}.log")),
        pod,
        process,
    };
    let mut client = Client {
        workload,
        input: input.into(),
        output: BufReader::new(output.into()),
    };
    let said = client.line()?;
    if said != READY {
        bail!("client {name} said {said:?} instead of {READY:?}");
    }
    Ok(client)
}

/// How long a process may take to end by itself.
const STOP: Duration = Duration::from_secs(3);

/// A client that waits for tasks. Dropping it ends it.
pub(crate) struct Client {
    pub workload: Workload,
    input: File,
    output: BufReader<File>,
}

impl Client {
    /// Gives it a task.
    pub(crate) fn tell(&mut self, task: impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(&task)?;
        line.push('\n');
        self.input
            .write_all(line.as_bytes())
            .with_context(|| format!("telling {}", self.workload.pod.name()))
    }

    /// Waits for what came of it.
    pub(crate) fn report<R: DeserializeOwned>(&mut self) -> anyhow::Result<R> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("report {line:?}"))
    }

    /// A task in which nothing may fail.
    pub(crate) fn work(&mut self, task: Task) -> anyhow::Result<Report> {
        self.tell(task)?;
        let report: Report = self.report()?;
        match report.errors.first() {
            None => Ok(report),
            Some(error) => bail!(
                "{}: {} of {} failed, the first: {error}",
                self.workload.pod.name(),
                report.errors.len(),
                task.count
            ),
        }
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let name = self.workload.pod.name();
        self.output
            .read_line(&mut line)
            .with_context(|| format!("hearing {name}"))?;
        if line.is_empty() {
            bail!("client {name} ended");
        }
        Ok(line.trim_end().to_owned())
    }
}
