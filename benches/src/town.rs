//! A mesh with the product's own clients and endpoints, in which something is broken.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use nsm_kernel::stats::LinkReader;
use nsm_lab::{
    Cell, Config, Exit, Lab, Run,
    mesh::{Mesh, MeshConfig, Workload},
    serve,
};

/// What a role logs when it is ready, and a client when it has its connection.
pub(crate) const READY: &str = "Startup completed";
pub(crate) const CONNECTED: &str = "successfully connected";
/// The port of the echo server beside every endpoint.
pub(crate) const ECHO: u16 = 7;
/// The interface of every client.
pub(crate) const INTERFACE: &str = "nsm-1";
/// The setting that says how long a lease is.
const LEASE: &str = "NSM_MAX_TOKEN_LIFETIME";
/// How long packets are counted to tell who gets them.
const COUNT: Duration = Duration::from_millis(100);
/// How long a tool may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where the logs of roles are kept, if somebody wants them.
const LOGS: &str = "NSM_BENCH_LOGS";
/// How long a process may take to end by itself.
pub(crate) const GRACE: Duration = Duration::from_secs(8);

/// See the module.
pub(crate) struct Town {
    pub mesh: Mesh,
    lab: Lab,
}

/// A service: what it is called, and where its endpoints are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub name: String,
    /// Tells its addresses from those of others: 10.N.0.0/24, 192.168.N.0/24.
    pub number: u8,
}

impl Service {
    pub(crate) fn new(name: &str, number: u8) -> Self {
        Self {
            name: name.to_owned(),
            number,
        }
    }

    /// The address that each of its endpoints answers at, so that a flow outlives any of them.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host().into(), ECHO)
    }

    fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, self.number, 1)
    }
}

impl Town {
    /// Nodes `node-1` and so on; leases of this length unless it is the product's own.
    pub(crate) fn up(nodes: usize, lease: Option<Duration>) -> anyhow::Result<Self> {
        let lab = Lab::new(&Config::default())?;
        let mut config = MeshConfig {
            log_level: std::env::var("NSM_BENCH_LOG_LEVEL").unwrap_or_default(),
            ..MeshConfig::default()
        };
        if let Some(lease) = lease {
            let value = format!("{}s", lease.as_secs());
            config.env.insert(LEASE.to_owned(), value);
        }
        let names: Vec<String> = (1..=nodes).map(|number| format!("node-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mesh = Mesh::up(&lab, &names, config)?;
        Ok(Self { mesh, lab })
    }

    /// An endpoint in a pod of its own, with an echo server at the service's address.
    pub(crate) fn endpoint(
        &self,
        at: usize,
        name: &str,
        service: &Service,
        env: &[(&str, &str)],
    ) -> anyhow::Result<Workload> {
        let number = service.number;
        let run = Run::nsm(["endpoint"])
            .env("NSM_SERVICE_NAMES", &service.name)
            .env("NSM_LISTEN_ON", "unix:///run/nse/nse.sock")
            .env("NSM_CIDR_PREFIX", format!("10.{number}.0.0/24"))
            .env("NSM_ROUTES", format!("192.168.{number}.0/24"));
        let pod = self.mesh.pod(self.mesh.node(at), name)?;
        let address = IpAddr::from(service.host());
        pod.cell().add_address("lo", address, 32)?;
        // It lives with its pod.
        let _server = serve::start(pod.cell(), &[], &[ECHO])?;
        Ok(self.mesh.run_in(pod, with(run, env), READY)?)
    }

    /// A client in a pod of its own, with its connection.
    pub(crate) fn client(
        &self,
        at: usize,
        name: &str,
        service: &Service,
        labels: &str,
    ) -> anyhow::Result<Workload> {
        let pod = self.mesh.pod(self.mesh.node(at), name)?;
        let run = client(service, labels);
        Ok(self.mesh.run_in(pod, run, CONNECTED)?)
    }

    /// A cell of an operator's, on the first node.
    pub(crate) fn tools(&self) -> anyhow::Result<Cell> {
        let node = self.mesh.node(0);
        let tools = self.mesh.stranger(node, "tools")?;
        node.enroll(&tools, "operator/bench")?;
        Ok(tools)
    }

    /// Runs one of the operator's tools there.
    pub(crate) fn tool(&self, tools: &Cell, args: &[&str]) -> anyhow::Result<()> {
        let log = self.lab.logs().join("tools.log");
        let agent = format!("unix://{}/agent.sock", nsm_lab::IDENTITY_FOLDER);
        let run = Run::nsm(args.iter().copied())
            .env("SPIFFE_ENDPOINT_SOCKET", agent)
            .env("NSM_REGISTRY_URL", self.mesh.registry_url())
            .log(&log);
        match tools.spawn(run)?.wait(PATIENCE) {
            Some(Exit::Code(0)) => Ok(()),
            exit => {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let last = text.lines().next_back().unwrap_or_default();
                bail!("nsm {}: {exit:?}: {last}", args.join(" "))
            }
        }
    }

    /// Takes the mesh down; what is left of it nevertheless is an error.
    pub(crate) fn down(self) -> anyhow::Result<()> {
        self.keep_logs();
        match self.lab.down().as_slice() {
            [] => Ok(()),
            left => bail!("left of the lab: {}", left.join("; ")),
        }
    }

    /// Copies the logs to where [`LOGS`] says, for who asks why.
    fn keep_logs(&self) {
        let Some(folder) = std::env::var_os(LOGS) else {
            return;
        };
        let folder = PathBuf::from(folder);
        let _there_already = fs::create_dir_all(&folder);
        for file in fs::read_dir(self.lab.logs())
            .into_iter()
            .flatten()
            .flatten()
        {
            // What cannot be kept is no reason to fail.
            let _ = fs::copy(file.path(), folder.join(file.file_name()));
        }
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        // Of a row that failed; after `down` there are none left.
        self.keep_logs();
    }
}

/// The product's client.
pub(crate) fn client(service: &Service, labels: &str) -> Run {
    let url = format!("kernel://{}/{INTERFACE}{labels}", service.name);
    Run::nsm(["client"])
        .env("NSM_LOG_FORMAT", "json")
        .env("NSM_NETWORK_SERVICES", url)
}

/// Ends a program in good order, and its pod.
pub(crate) fn end(workload: &Workload) {
    let _exit = workload.process.stop(GRACE);
    workload.pod.kill();
}

/// Which of these endpoints the packets of a running flow go to: its place among them.
pub(crate) fn serving(endpoints: &[&Workload]) -> anyhow::Result<usize> {
    let received = |endpoint: &&Workload| -> anyhow::Result<u64> {
        let links = endpoint
            .pod
            .cell()
            .within(|| LinkReader::open()?.links(None))??;
        let ours = links.iter().filter(|link| link.name != "lo");
        Ok(ours.map(|link| link.counters.rx_packets).sum())
    };
    let before: Vec<u64> = endpoints.iter().map(received).collect::<Result<_, _>>()?;
    std::thread::sleep(COUNT);
    let mut found = None;
    for (at, endpoint) in endpoints.iter().enumerate() {
        let more = received(endpoint)?.saturating_sub(before[at]);
        if found.is_none_or(|(most, _)| more > most) {
            found = Some((more, at));
        }
    }
    match found {
        Some((more, at)) if more > 0 => Ok(at),
        Some(_) | None => bail!("no endpoint receives packets"),
    }
}

fn with(run: Run, env: &[(&str, &str)]) -> Run {
    env.iter()
        .fold(run, |run, (key, value)| run.env(*key, *value))
}
