//! Identity across implementations: our mesh on a Workload API server of go-spiffe's types that has
//! SPIRE's habits, in the place of `nsm ca`; and programs on go-spiffe that live by `nsm ca`.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use nsm_api::connection::State;
use nsm_identity::{Identity, Workload as Source, ca::Root};
use nsm_lab::{
    Exit, IDENTITY_FOLDER, Process, Run,
    measure::UdpFlow,
    mesh::{MeshConfig, TRUST_DOMAIN, Workload},
    serve,
};
use nsm_model::spiffe::SpiffeId;

use crate::{
    Outcome,
    peers::Peers,
    raw,
    world::{
        CONNECTED, PATIENCE, READY, Shape, World, addresses, count, end, last, lines, pings, says,
        stopped, until,
    },
};

/// The habits: a minute's SVIDs, each replaced after five seconds, signed by an RSA authority below
/// an RSA root that is replaced every quarter of a minute; a second identity for everybody; streams
/// that break in three ways.
const HABITS: &str = "--svid-life 60s --rotate-every 5s --rsa-ca --hint spare --cut-streams 7s";
/// For one server of the domain: prepared, active and pruned five seconds apart.
const ROOTS: &str = "--rotate-root 15s";
/// Another trust domain, and the file its bundle is in once it is known.
const OTHER: &str = "other.lab";
const OTHER_FILE: &str = "other.pem";
/// How often an SVID must have been replaced, and how long that is watched.
const ROTATIONS: usize = 10;
const TRAFFIC: Duration = Duration::from_secs(52);
/// Leases are as long as tokens: this many are prolonged meanwhile.
const TOKEN_LIFE: &str = "10s";
/// Life of the SVIDs of `nsm ca` for the other way around.
const SVID_LIFE: Duration = Duration::from_secs(12);
/// Who sees all connections.
const OPERATOR: &str = "operator/tests";
const ECHO: u16 = 7;
const RATE: u32 = 100;

/// What no role may say while identities rotate.
const FAILURES: [&str; 9] = [
    "request failed",
    "refresh failed; packets flow, trying again",
    "healing",
    "lease ended: closing",
    "registration failed",
    "the registry is lost; its last records are kept",
    "unusable SVID ignored",
    "denied",
    "a call panicked",
];

fn config() -> MeshConfig {
    let env = [
        ("NSM_MAX_TOKEN_LIFETIME", TOKEN_LIFE),
        ("NSM_LOG_FORMAT", "json"),
    ];
    MeshConfig {
        log_level: "INFO,nsm_identity=debug".to_owned(),
        env: env.map(|(key, value)| (key.into(), value.into())).into(),
        ..MeshConfig::default()
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace().map(str::to_owned)
}

/// What a server of the node's agent's cell is told.
fn arguments(socket: &str, more: &str) -> Vec<String> {
    let fixed = format!(
        "--trust-domain {TRUST_DOMAIN} --dir /run/ca --entries /run/entries/entries.yaml \
         --federate {OTHER}=/run/ca/{OTHER_FILE} --socket {IDENTITY_FOLDER}/{socket}"
    );
    words(&fixed).chain(words(more)).collect()
}

/// Our whole mesh on a server with SPIRE's habits.
pub(crate) fn habits(outcome: &Outcome, peers: &Peers) {
    let name = |row: &str| format!("identity::{row}");
    type Step = fn(&World, &Peers);
    let rows: [(&str, Step); 4] = [
        ("nobody before there is an entry", |world, _| entry(world)),
        ("an SVID with an RSA key", rsa_svid),
        ("another trust domain comes and goes", |world, _| {
            federated(world);
        }),
        ("ten rotations under traffic", |world, _| rotations(world)),
    ];
    if !rows.iter().any(|(row, _)| outcome.wanted(&name(row))) {
        return;
    }
    let Some(program) = peers.program("workload-api") else {
        return outcome.skip(&name("SPIRE's habits"), "no workload-api of theirs");
    };
    let mut config = config();
    for (at, more) in [ROOTS, ""].into_iter().enumerate() {
        let mut program = program.clone();
        program
            .args
            .extend(arguments("agent.sock", &format!("{HABITS} {more}")));
        config.others.insert(("ca", at), program);
    }
    let shape = Shape {
        nodes: &["node-1", "node-2"],
        config,
    };
    outcome.mesh("identity", shape, |world| {
        for (row, step) in rows {
            if outcome.wanted(&name(row)) {
                outcome.run(&name(row), || step(world, peers));
            }
        }
    });
}

/// PermissionDenied until there is an entry; then the first of several identities.
fn entry(world: &World) {
    let node = world.mesh.node(0);
    let pod = world.lab.pod(node.node(), "i-late", |spec| spec).unwrap();
    let run = World::program(
        "client",
        &[("NSM_NETWORK_SERVICES", "kernel://i-any/nsm-1")],
    );
    let client = world.mesh.run_in(pod, run, "no identity yet").unwrap();
    let refusal = last(&client.log, "no identity yet")["error"].to_string();
    says(&refusal, &["no identity issued", "add an entry", "uid"]);
    node.enroll(client.pod.cell(), "i-late").unwrap();
    until("it has its identity", PATIENCE, || {
        count(&client.log, "identity received") == 1
    });
    let id = last(&client.log, "identity received")["id"].clone();
    assert_eq!(id, format!("spiffe://{TRUST_DOMAIN}/i-late"), "the default");
    until("it is ready", PATIENCE, || count(&client.log, READY) == 1);
    end(client);
}

/// With such a key nobody can sign a token: what to change is said.
fn rsa_svid(world: &World, peers: &Peers) {
    let node = world.mesh.node(0);
    let mut program = peers.program("workload-api").unwrap();
    program.args.extend(arguments("rsa.sock", "--rsa-svid"));
    let server = node.agent().cell().spawn(program.run()).unwrap();
    let pod = world.mesh.pod(node, "i-rsa").unwrap();
    let log = world.lab.logs().join("i-rsa.log");
    let run = World::program("client", &[("NSM_IDENTITY_TIMEOUT", "2s")])
        .env("NSM_NETWORK_SERVICES", "kernel://i-any/nsm-1")
        .env(
            "SPIFFE_ENDPOINT_SOCKET",
            format!("unix://{IDENTITY_FOLDER}/rsa.sock"),
        )
        .log(&log);
    let process = pod.cell().spawn(run).unwrap();
    assert_eq!(process.wait(PATIENCE), Some(Exit::Code(1)));
    let text = fs::read_to_string(&log).unwrap();
    let said = text.lines().last().unwrap_or_default();
    says(said, &["spiffe://nsm.lab/i-rsa", "ec-p256"]);
    pod.kill();
    assert!(server.stop(PATIENCE).is_some(), "it ends");
}

/// This process's own identity from the node's agent, which has its entry for it.
fn operator(world: &World) -> Arc<Identity> {
    let node = world.mesh.node(0);
    // The agent's cell shares its processes' numbers with this one.
    node.enroll(node.agent().cell(), OPERATOR).unwrap();
    let folder = node.node().identity_folder();
    let socket = format!("unix://{}/agent.sock", folder.display());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let connected = runtime.block_on(Source::connect(&socket, PATIENCE));
    connected.unwrap().source().current()
}

/// Whoever is of a federated trust domain is let in by the handshake, and nobody else.
fn federated(world: &World) {
    let root = Root::generate(OTHER.parse().unwrap()).unwrap();
    let id: SpiffeId = format!("spiffe://{OTHER}/guest").parse().unwrap();
    let theirs = root.issue(&id, Duration::from_secs(60)).unwrap();
    let knocks = || {
        // With the newest bundle of the mesh's domain, whose roots change.
        let mut bundles = operator(world).bundles().clone();
        bundles.extend(root.bundles());
        let key = theirs.key().secret_der().to_vec();
        let guest = Identity::new(theirs.chain().to_vec(), key, bundles).unwrap();
        let target = raw::manager(world, 0);
        raw::speak(world, 0, guest, async |raw| {
            raw.hop(&target).await.map(drop)
        })
    };
    let folder = world.mesh.node(0).node().folder();
    let file = folder.join("ca").join(OTHER_FILE);
    let refused = |when: &str| {
        let error = knocks().expect_err(when);
        says(&error.message, &["spiffe://other.lab/guest", "authority"]);
    };
    refused("before it is federated");
    fs::write(&file, root.bundle_pem()).unwrap();
    until("it is let in", PATIENCE, || knocks().is_ok());
    fs::remove_file(&file).unwrap();
    until("it is not any more", PATIENCE, || knocks().is_err());
    refused("after it is no longer federated");
}

struct Pair {
    endpoint: Workload,
    client: Workload,
    flow: UdpFlow,
    _server: Process,
}

impl Pair {
    /// A client on the first node, its endpoint on that one, and packets between them.
    fn up(world: &World, service: &str, at: usize, client: Run) -> Self {
        let prefix = format!("172.16.{at}.0/24");
        let env: &[(&str, &str)] = &[("NSM_CIDR_PREFIX", &prefix)];
        let endpoint = world.endpoint(at, &format!("{service}-nse"), service, env);
        let server = serve::start(endpoint.pod.cell(), &[], &[ECHO]).unwrap();
        let run = client.env("NSM_NETWORK_SERVICES", format!("kernel://{service}/nsm-1"));
        let name = format!("{service}-nsc");
        let client = world.mesh.run(world.mesh.node(0), &name, run, CONNECTED);
        let client = client.unwrap_or_else(|error| panic!("{error}"));
        // The first network of two addresses: the endpoint has the first one.
        let to: SocketAddr = format!("172.16.{at}.0:{ECHO}").parse().unwrap();
        let flow = UdpFlow::start(client.pod.cell(), to, RATE).unwrap();
        assert!(flow.wait_answer(flow.now(), PATIENCE), "packets pass");
        Self {
            endpoint,
            client,
            flow,
            _server: server,
        }
    }

    fn lost(&self, since: Duration) -> u64 {
        let report = self.flow.report(since, self.flow.now());
        report.lost.saturating_sub(report.receive_drops)
    }

    fn end(self) {
        drop(self.flow);
        stopped(&self.client.process);
        self.client.pod.kill();
        end(self.endpoint);
    }
}

/// A minute's SVIDs, rotated ten times, with the roots above them, under packets, refreshes and new
/// connections: nothing fails, nothing is lost.
fn rotations(world: &World) {
    let client = || World::program("client", &[]);
    let pairs = [("i-near", 0), ("i-far", 1)].map(|(name, at)| Pair::up(world, name, at, client()));
    let logs = world.lab.logs();
    let log = |name: &str| logs.join(format!("{name}.log"));
    let watched = [
        "registry-node-1",
        "manager-node-1",
        "manager-node-2",
        "forwarder-node-1",
        "forwarder-node-2",
        "i-near-nse",
        "i-near-nsc",
        "i-far-nse",
        "i-far-nsc",
    ];
    let before = watched.map(|name| (svids(&log(name)), failures(&log(name))));
    let (began, marks) = (Instant::now(), pairs.each_ref().map(|pair| pair.flow.now()));
    let mut connected = 0;
    while began.elapsed() < TRAFFIC {
        let service = ["i-near", "i-far"][connected % 2];
        let name = format!("i-new-{connected}");
        let read = || said(world, "entries read");
        let before = read();
        let pod = world.mesh.pod(world.mesh.node(0), &name).unwrap();
        // The number of its pid namespace may have been the last one's.
        until("the agent knows it", PATIENCE, || read() > before);
        let run = client().env("NSM_NETWORK_SERVICES", format!("kernel://{service}/nsm-1"));
        let next = world.mesh.run_in(pod, run, CONNECTED).unwrap();
        assert!(pings(next.pod.cell(), &addresses(&next).1[0]), "{name}");
        let mut failed = lines(&next.log);
        failed.retain(|line| line["fields"]["message"] == "request failed");
        assert!(failed.is_empty(), "{name}: {failed:?}");
        end(next);
        connected += 1;
        std::thread::sleep(Duration::from_secs(1));
    }
    let lost = [0, 1].map(|at| pairs[at].lost(marks[at]));
    println!("{connected} new connections, lost packets {lost:?}");
    assert_eq!(lost, [0, 0], "lost packets");
    assert!(connected >= 10, "{connected} new connections");
    for (name, (svids_before, failures_before)) in watched.iter().zip(before) {
        let rotated = svids(&log(name)).difference(&svids_before).count();
        assert!(rotated >= ROTATIONS, "{name} rotated {rotated} times");
        assert_eq!(failures(&log(name)), failures_before, "{name}");
    }
    leases_hold(world, &operator(world), &["i-near-nsc", "i-far-nsc"]);
    for (habit, least) in [
        ("cut a stream", 10),
        ("step=activate", 3),
        ("step=prune", 3),
    ] {
        let seen = said(world, habit);
        assert!(seen >= least, "{habit}: {seen}");
    }
    for pair in pairs {
        pair.end();
    }
}

/// How often the first node's agent has said something.
fn said(world: &World, what: &str) -> usize {
    let log = world.lab.logs().join("ca-node-1.log");
    fs::read_to_string(log).unwrap().matches(what).count()
}

/// The SVIDs that a role went over to, by their ends.
fn svids(log: &Path) -> BTreeSet<String> {
    let of = |line: &serde_json::Value| {
        let fields = &line["fields"];
        (fields["message"] == "identity rotated").then(|| fields["until"].to_string())
    };
    lines(log).iter().filter_map(of).collect()
}

/// Each failure in a log.
fn failures(log: &Path) -> Vec<String> {
    let bad = |line: &serde_json::Value| {
        let message = line["fields"]["message"].as_str()?;
        FAILURES.contains(&message).then(|| line.to_string())
    };
    lines(log).iter().filter_map(bad).collect()
}

/// What these clients have is up, and was prolonged lately.
fn leases_hold(world: &World, operator: &Arc<Identity>, clients: &[&str]) {
    let target = raw::manager(world, 0);
    let all = raw::speak(world, 0, Arc::clone(operator), async |raw| {
        raw::connections_of(raw, &target).await.unwrap()
    });
    for name in clients {
        let mut all = all.iter();
        let found = all.find(|one| one.path.path_segments[0].name == *name);
        let found = found.unwrap_or_else(|| panic!("no connection of {name}"));
        let expires = found.path.path_segments[0].expires.seconds;
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert_eq!(found.state, State::UP, "{name}");
        assert!(u64::try_from(expires).unwrap() >= now, "{name}: its lease");
    }
}

/// Programs on go-spiffe live by `nsm ca`: one that runs on when its first SVID is long over, and
/// one that begins then. (Leases of theirs end with the certificate that their connection began
/// with: that one cannot be a client.)
pub(crate) fn ours(outcome: &Outcome, peers: &Peers) {
    let name = "identity::theirs on nsm ca";
    if !outcome.wanted(name) {
        return;
    }
    let (Some(registry), Some(_)) = (peers.program("registry"), peers.program("client")) else {
        return outcome.skip(name, "no registry or client of theirs");
    };
    let mut config = config();
    config.others.insert(("registry", 0), registry);
    let life = format!("{}s", SVID_LIFE.as_secs());
    config.env.insert("NSM_CA_SVID_LIFETIME".to_owned(), life);
    let nodes = &["node-1", "node-2"];
    outcome.mesh(name, Shape { nodes, config }, |world| {
        outcome.run(name, || {
            let pair = Pair::up(world, "i-ours", 1, World::program("client", &[]));
            let mark = pair.flow.now();
            std::thread::sleep(SVID_LIFE * 2);
            let run = peers
                .run("client")
                .env("NSM_NETWORK_SERVICES", "kernel://i-ours/nsm-1");
            let node = world.mesh.node(0);
            let late = world.mesh.run(node, "i-theirs-nsc", run, CONNECTED);
            let late = late.unwrap_or_else(|error| panic!("{error}"));
            assert!(pings(late.pod.cell(), "172.16.1.2"), "its packets");
            assert_eq!(pair.lost(mark), 0, "lost packets");
            let both = ["i-ours-nsc", "i-theirs-nsc"];
            leases_hold(world, &raw::known(world, OPERATOR), &both);
            assert!(late.process.stop(PATIENCE).is_some(), "it ends");
            pair.end();
        });
    });
}
