//! Three members of a real etcd, as child processes.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nsm_registry::{
    SystemClock,
    store::etcd::{EtcdSettings, EtcdStore},
};
use tempfile::TempDir;

/// Debian's packages put them there; elsewhere they are found by name.
const SERVER: &str = "etcd";
const TOOL: &str = "etcdctl";
/// How many members survive one.
pub(crate) const MEMBERS: usize = 3;
/// How long a cluster may take to choose its first leader.
const PATIENCE: Duration = Duration::from_secs(30);

/// The members; they end with it.
pub(crate) struct Cluster {
    members: Vec<Member>,
    folder: TempDir,
    /// Options of every member, and of the tool.
    options: [Vec<String>; 2],
    scheme: &'static str,
}

struct Member {
    client: u16,
    peer: u16,
    child: Option<Child>,
}

/// Why there can be none here.
pub(crate) fn missing() -> Option<String> {
    [SERVER, TOOL]
        .into_iter()
        .find(|program| {
            run(program, &["--version"]).is_none() && run(program, &["version"]).is_none()
        })
        .map(|program| format!("{program} is not installed (Debian: etcd-server, etcd-client)"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test starts what it tests against"
)]
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("ETCDCTL_API", "3");
    command
}

fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = command(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A port that was free a moment ago.
fn port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Cluster {
    /// Members that are not started yet.
    pub(crate) fn prepare() -> Self {
        let member = || Member {
            client: port(),
            peer: port(),
            child: None,
        };
        Self {
            members: (0..MEMBERS).map(|_| member()).collect(),
            folder: tempfile::tempdir().unwrap(),
            options: [Vec::new(), Vec::new()],
            scheme: "http",
        }
    }

    /// Members that speak TLS, and take who shows a certificate of this authority alone.
    pub(crate) fn behind_tls(&mut self, ca: &str, certificate: &str, key: &str) {
        let options = |names: [&str; 3]| {
            let pairs = names.into_iter().zip([ca, certificate, key]);
            pairs
                .map(|(name, path)| format!("--{name}={path}"))
                .collect()
        };
        self.options = [
            options(["trusted-ca-file", "cert-file", "key-file"]),
            options(["cacert", "cert", "key"]),
        ];
        self.options[0].push("--client-cert-auth".to_owned());
        self.scheme = "https";
    }

    /// Where it keeps its files.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Members that have a leader.
    pub(crate) async fn start() -> Self {
        let mut cluster = Self::prepare();
        for member in 0..MEMBERS {
            cluster.up(member);
        }
        cluster.store("start").reach().await.unwrap();
        cluster
    }

    /// Starts a member, with what it had before.
    pub(crate) fn up(&mut self, at: usize) {
        let peers: Vec<String> = (0..MEMBERS)
            .map(|at| format!("m{at}=http://127.0.0.1:{}", self.members[at].peer))
            .collect();
        let folder = self.folder.path().join(format!("m{at}"));
        let log = std::fs::File::create(self.log(at)).unwrap();
        let member = &mut self.members[at];
        let client = format!("{}://127.0.0.1:{}", self.scheme, member.client);
        let peer = format!("http://127.0.0.1:{}", member.peer);
        let child = command(SERVER)
            .args(["--name", &format!("m{at}")])
            .arg("--data-dir")
            .arg(folder)
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &peers.join(",")])
            .args(["--initial-cluster-state", "new", "--log-level", "warn"])
            .args(&self.options[0])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        member.child = Some(child);
    }

    fn log(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("m{at}.log"))
    }

    /// Kills a member as `kill -9` does.
    pub(crate) fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.members[at].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The member that leads.
    pub(crate) fn leader(&self) -> usize {
        let start = Instant::now();
        loop {
            if let Some(at) = (0..MEMBERS).find(|at| self.leads(*at)) {
                return at;
            }
            assert!(start.elapsed() < PATIENCE, "no leader");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn leads(&self, at: usize) -> bool {
        let status = self.tool(at, &["endpoint", "status", "--write-out", "json"]);
        let status: serde_json::Value = match status.map(|text| serde_json::from_str(&text)) {
            Some(Ok(status)) => status,
            _ => return false,
        };
        let status = &status[0]["Status"];
        status["leader"].is_u64() && status["leader"] == status["header"]["member_id"]
    }

    /// Runs etcd's own tool at a member; `None` if it fails.
    pub(crate) fn tool(&self, at: usize, arguments: &[&str]) -> Option<String> {
        let (scheme, port) = (self.scheme, self.members[at].client);
        let endpoints = format!("--endpoints={scheme}://127.0.0.1:{port}");
        let mut all = vec![endpoints.as_str(), "--command-timeout=5s"];
        all.extend(self.options[1].iter().map(String::as_str));
        all.extend(arguments);
        run(TOOL, &all)
    }

    /// How the cluster is spoken to, with keys of one's own.
    pub(crate) fn settings(&self, prefix: &str) -> EtcdSettings {
        let members: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("127.0.0.1:{}", member.client))
            .collect();
        let url = format!("etcd://{}/{prefix}", members.join(","));
        EtcdSettings::of(url.parse().unwrap())
    }

    /// A store of the cluster.
    pub(crate) fn store(&self, prefix: &str) -> Arc<EtcdStore> {
        Arc::new(EtcdStore::open(&self.settings(prefix), Arc::new(SystemClock)).unwrap())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for at in 0..MEMBERS {
            self.kill(at);
            if std::thread::panicking() {
                let log = std::fs::read_to_string(self.log(at)).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                println!("m{at}: {last:#?}");
            }
        }
    }
}
