//! A mesh of a group's own, and what rows do with it.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use nsm_lab::{
    Cell, Config, Lab, Process, Run,
    measure::ping,
    mesh::{Mesh, MeshConfig, Workload},
};
use serde_json::Value;

/// What a program says when it is ready.
pub(crate) const READY: &str = "Startup completed";
/// What a client says when a connection is granted.
pub(crate) const CONNECTED: &str = "successfully connected";
/// How long anything may take that has no bound of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// How long a program may take to end in good order.
const GRACE: Duration = Duration::from_secs(8);

/// What a group's mesh is like.
#[derive(Default)]
pub(crate) struct Shape {
    pub(crate) nodes: &'static [&'static str],
    pub(crate) config: MeshConfig,
}

/// See the module.
pub(crate) struct World {
    pub(crate) lab: Lab,
    pub(crate) mesh: Mesh,
    name: String,
}

/// A program's variables.
pub(crate) type Env<'a> = &'a [(&'a str, &'a str)];

impl World {
    pub(crate) fn up(name: &str, shape: Shape) -> Self {
        let lab = Lab::new(&Config::default()).unwrap();
        let mesh = match Mesh::up(&lab, shape.nodes, shape.config) {
            Ok(mesh) => mesh,
            Err(error) => panic!("{error}"),
        };
        Self {
            lab,
            mesh,
            name: name.to_owned(),
        }
    }

    pub(crate) fn down(self) -> Vec<String> {
        let Self { lab, mesh, .. } = self;
        drop(mesh);
        let began = Instant::now();
        loop {
            // A busy kernel takes its time with namespaces.
            let left = lab.down();
            if left.is_empty() || began.elapsed() > PATIENCE {
                return left;
            }
        }
    }

    /// Keeps the logs of a failed group where `NSM_TEST_LOGS` says.
    pub(crate) fn keep_logs(&self) {
        let Some(folder) = std::env::var_os("NSM_TEST_LOGS") else {
            return;
        };
        let folder = Path::new(&folder).join(&self.name);
        fs::create_dir_all(&folder).unwrap();
        for file in fs::read_dir(self.lab.logs()).unwrap().flatten() {
            fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
    }

    /// One of our programs with the pod's name, logging JSON.
    pub(crate) fn program(role: &str, env: Env<'_>) -> Run {
        let run = Run::nsm([role]).env("NSM_LOG_FORMAT", "json");
        env.iter()
            .fold(run, |run, (key, value)| run.env(*key, *value))
    }

    pub(crate) fn endpoint(&self, at: usize, name: &str, service: &str, env: Env<'_>) -> Workload {
        let run = Self::program("endpoint", &[("NSM_SERVICE_NAMES", service)])
            .env("NSM_LISTEN_ON", "unix:///run/nse/nse.sock");
        let run = env
            .iter()
            .fold(run, |run, (key, value)| run.env(*key, *value));
        self.told(self.mesh.run(self.mesh.node(at), name, run, READY))
    }

    pub(crate) fn client(&self, at: usize, name: &str, urls: &str, env: Env<'_>) -> Workload {
        let run = Self::program("client", env).env("NSM_NETWORK_SERVICES", urls);
        self.told(self.mesh.run(self.mesh.node(at), name, run, CONNECTED))
    }

    /// A client that is not waited for.
    pub(crate) fn asking(&self, at: usize, name: &str, urls: &str, env: Env<'_>) -> Workload {
        let run = Self::program("client", env).env("NSM_NETWORK_SERVICES", urls);
        self.told(self.mesh.run(self.mesh.node(at), name, run, READY))
    }

    fn told(&self, workload: Result<Workload, nsm_lab::LabError>) -> Workload {
        workload.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// What a client is told that asks for this, once it has been refused; it is ended then, which
    /// must be in good order.
    pub(crate) fn refused(&self, at: usize, name: &str, urls: &str, env: Env<'_>) -> String {
        let client = self.asking(at, name, urls, env);
        let error = self.complaint(&client);
        end(client);
        error
    }

    /// The first refusal in a client's log.
    pub(crate) fn complaint(&self, client: &Workload) -> String {
        let refusal = wait_for(PATIENCE, || {
            lines(&client.log).into_iter().find_map(|line| {
                let fields = line.get("fields")?;
                (fields.get("message")?.as_str()? == "request failed")
                    .then(|| fields["error"].as_str().unwrap().to_owned())
            })
        });
        refusal.unwrap_or_else(|| panic!("{}: nobody refused it", client.log.display()))
    }
}

/// Each JSON line of a log.
pub(crate) fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// How often a message is in a log.
pub(crate) fn count(log: &Path, message: &str) -> usize {
    let said = |line: &Value| line["fields"]["message"] == message;
    lines(log).iter().filter(|line| said(line)).count()
}

/// The fields of the last line with this message.
pub(crate) fn last(log: &Path, message: &str) -> Value {
    let said = |line: &Value| line["fields"]["message"] == message;
    let found = lines(log).into_iter().rfind(|line| said(line));
    found.unwrap_or_else(|| panic!("{}: no {message:?}", log.display()))["fields"].clone()
}

/// Ends a program in good order, and its pod.
pub(crate) fn end(workload: Workload) {
    stopped(&workload.process);
    workload.pod.kill();
}

pub(crate) fn stopped(process: &Process) {
    let exit = process.stop(GRACE);
    assert_eq!(exit, Some(nsm_lab::Exit::Code(0)), "SIGTERM");
}

/// Looks until there is something, or the time is over.
pub(crate) fn wait_for<T>(time: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if began.elapsed() >= time {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, time: Duration, mut holds: impl FnMut() -> bool) {
    assert!(
        wait_for(time, || holds().then_some(())).is_some(),
        "not within {time:?}: {what}"
    );
}

/// Every part is in the text, and nothing of what wrappers leave there.
pub(crate) fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    for tower in [
        "rpc error",
        "status: ",
        "Status {",
        "Error(",
        "Custom {",
        "transport error",
    ] {
        assert!(!text.contains(tower), "{tower:?} is in: {text}");
    }
}

/// An echo comes back.
pub(crate) fn pings(from: &Cell, to: &str) -> bool {
    let to: IpAddr = to.parse().unwrap();
    let report = ping(from, to, 2, Duration::from_millis(5)).unwrap();
    report.received == report.sent
}

/// The addresses of a client's connection, ours and the other side's, as it told them.
pub(crate) fn addresses(client: &Workload) -> (Vec<String>, Vec<String>) {
    let fields = last(&client.log, CONNECTED);
    let list = |key: &str| -> Vec<String> {
        let text = fields[key].as_str().unwrap_or_default();
        text.split(',')
            .filter(|one| !one.is_empty())
            .map(|one| one.split('/').next().unwrap_or_default().to_owned())
            .collect()
    };
    (list("addresses"), list("peers"))
}

/// Runs the `ip` command in a cell's network namespace.
pub(crate) fn ip(cell: &Cell, arguments: &str) -> String {
    let output = cell
        .within(|| {
            std::process::Command::new("ip")
                .args(arguments.split_whitespace())
                .output()
        })
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text + &String::from_utf8_lossy(&output.stderr)
}
