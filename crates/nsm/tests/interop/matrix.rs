//! The matrix: each part of a path from the other implementation with the rest ours, and ours with
//! the rest from there. In each cell a client connects across two nodes, refreshes twice, moves to
//! another endpoint when its own dies, and closes; then nothing is left.

use std::{
    cell::RefCell,
    fs,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use nsm_api::connection::{Connection, State};
use nsm_identity::token::decode_unverified;
use nsm_lab::{
    Process,
    measure::UdpFlow,
    mesh::{MeshConfig, Workload},
    serve,
};

use crate::{
    Outcome,
    census::{Census, kernel, links},
    peers::Peers,
    raw,
    world::{CONNECTED, PATIENCE, READY, Shape, World, ip, pings, until, wait_for},
};

/// A part of the path that can be either implementation's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Client,
    Endpoint,
    Registry,
    NearManager,
    FarManager,
    Hop,
}

/// Which parts are theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theirs {
    /// This one.
    Only(Part),
    /// All but this one. The forwarders are ours in any case, as theirs carry no packets.
    AllBut(Part),
}

/// One cell of the matrix.
#[derive(Debug)]
pub(crate) struct Cell(Theirs);

/// The parts by name.
const PARTS: [(Part, &str); 6] = [
    (Part::Client, "client"),
    (Part::Endpoint, "endpoint"),
    (Part::Registry, "registry"),
    (Part::NearManager, "manager on node 1"),
    (Part::FarManager, "manager on node 2"),
    (Part::Hop, "cross-connect hop"),
];

/// All cells.
pub(crate) fn cells() -> impl Iterator<Item = Cell> {
    let only = PARTS.into_iter().map(|(part, _)| Theirs::Only(part));
    let but = PARTS.into_iter().map(|(part, _)| Theirs::AllBut(part));
    only.chain(but).map(Cell)
}

/// The steps of a cell, with the mesh that stands before them.
const STEPS: usize = 5;

/// Prints what came of the cells, as a table of parts.
pub(crate) fn print(outcome: &Outcome) {
    println!("{:<20}{:<22}ours among theirs", "", "theirs among ours");
    for (part, name) in PARTS {
        let [only, but] = [Theirs::Only(part), Theirs::AllBut(part)].map(|theirs| {
            let steps = outcome.verdicts(&format!("{}::", Cell(theirs).name()));
            let red = steps.iter().find(|(_, ok)| !ok);
            match (red, steps.len()) {
                (Some((step, _)), _) => format!("RED: {step}"),
                (None, STEPS) => "green".to_owned(),
                (None, _) => "not run".to_owned(),
            }
        });
        println!("{name:<20}{only:<22}{but}");
    }
}

/// How long a client's token lives: it asks again within a fifth to a third of that.
const CLIENT_TOKEN_LIFE: &str = "20s";
/// How long the other tokens live. Theirs take an endpoint out of the registry that much before
/// its token expires as a call may take, 15 s (sdk `registry/common/expire/nse_server.go`).
const TOKEN_LIFE: &str = "60s";
/// How long a request may take. Theirs end a lease that much before its token expires (sdk
/// `timeout/server.go`).
const REQUEST_TIMEOUT: &str = "5s";
/// Within this a client has asked again, twice.
const REFRESHED: Duration = Duration::from_secs(30);
/// Within this a client has another endpoint: a lease and some dials.
const HEALED: Duration = Duration::from_secs(40);
/// Within this nothing is left.
const GONE: Duration = Duration::from_secs(40);
/// How long a program of theirs may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// So many packets of a hundred a second may be lost while a busy machine stalls.
const STALLED: u64 = 10;
const ECHO: u16 = 7;
const SERVICE: &str = "echo";
const CLIENT: &str = "nsc";
/// The endpoints' names and prefixes.
const ENDPOINTS: [(&str, &str); 2] = [("nse-a", "172.16.1.0/24"), ("nse-b", "172.16.2.0/24")];

impl Cell {
    fn name(&self) -> String {
        let named = |part| PARTS.iter().find(|(one, _)| *one == part).unwrap().1;
        match self.0 {
            Theirs::Only(part) => format!("matrix::{} theirs", named(part)),
            Theirs::AllBut(part) => format!("matrix::{} ours", named(part)),
        }
    }

    fn theirs(&self, part: Part) -> bool {
        match self.0 {
            Theirs::Only(one) => one == part,
            Theirs::AllBut(one) => one != part && part != Part::Hop,
        }
    }

    /// Whether there is a way for packets.
    fn carries(&self) -> bool {
        !self.theirs(Part::Hop)
    }

    fn others(&self, peers: &Peers) -> Result<MeshConfig, String> {
        let env = [
            ("NSM_MAX_TOKEN_LIFETIME", TOKEN_LIFE),
            ("NSM_REQUEST_TIMEOUT", REQUEST_TIMEOUT),
        ];
        let mut config = MeshConfig {
            env: env
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..MeshConfig::default()
        };
        let parts = [
            (Part::Client, "client", None),
            (Part::Endpoint, "endpoint", None),
            (Part::Registry, "registry", Some(0)),
            (Part::NearManager, "manager", Some(0)),
            (Part::FarManager, "manager", Some(1)),
            (Part::Hop, "forwarder", Some(0)),
        ];
        for (part, role, at) in parts {
            if !self.theirs(part) {
                continue;
            }
            let program = peers.program(role).ok_or(format!("no {role} of theirs"))?;
            if let Some(at) = at {
                config.others.insert((role, at), program);
            }
        }
        Ok(config)
    }

    /// Runs the cell.
    pub(crate) fn run(&self, outcome: &Outcome, peers: &Peers) {
        let name = self.name();
        if !outcome.wanted(&name) {
            return;
        }
        let config = match self.others(peers) {
            Ok(config) => config,
            Err(lack) => return outcome.skip(&name, &lack),
        };
        let nodes = &["node-1", "node-2"];
        outcome.mesh(&name, Shape { nodes, config }, |world| {
            let scene = RefCell::new(None);
            let steps: [(&str, &dyn Fn()); 4] = [
                ("connect", &|| {
                    let connected = Scene::connect(self, world, peers);
                    scene.replace(Some(connected));
                }),
                ("refresh twice", &|| {
                    scene.borrow().as_ref().unwrap().refresh()
                }),
                ("heal", &|| scene.borrow_mut().as_mut().unwrap().heal()),
                ("close", &|| scene.take().unwrap().close()),
            ];
            // What comes after a step that failed would only tell the same again.
            let _first_failure = steps
                .iter()
                .all(|(step, run)| outcome.run(&format!("{name}::{step}"), run));
        });
    }
}

/// A client and two endpoints of its service on the other node.
struct Scene<'a> {
    cell: &'a Cell,
    world: &'a World,
    before: Census,
    endpoints: Vec<(Workload, Process)>,
    client: Workload,
}

impl<'a> Scene<'a> {
    fn connect(cell: &'a Cell, world: &'a World, peers: &Peers) -> Self {
        let before = nodes(world);
        let program = |part, role| match cell.theirs(part) {
            // Theirs writes to the machine's own files for this one.
            true => peers.run(role).env("NSM_LOCAL_DNS_SERVER_ENABLED", "false"),
            false => World::program(role, &[]),
        };
        let endpoints = ENDPOINTS.map(|(name, prefix)| {
            let run = program(Part::Endpoint, "endpoint")
                .env("NSM_SERVICE_NAMES", SERVICE)
                .env("NSM_CIDR_PREFIX", prefix)
                .env("NSM_LISTEN_ON", "unix:///run/nse/nse.sock");
            // Theirs refuse a service to the second one that registers it (sdk
            // `registry/common/authorize/ns_server.go`).
            let second = name == ENDPOINTS[1].0 && cell.theirs(Part::Endpoint);
            let run = run.env("NSM_REGISTER_SERVICE", (!second).to_string());
            let endpoint = world.mesh.run(world.mesh.node(1), name, run, READY);
            let endpoint = endpoint.unwrap_or_else(|error| panic!("{error}"));
            let echo = serve::start(endpoint.pod.cell(), &[], &[ECHO]).unwrap();
            (endpoint, echo)
        });
        let run = program(Part::Client, "client")
            .env("NSM_NETWORK_SERVICES", format!("kernel://{SERVICE}/nsm-1"))
            .env("NSM_MAX_TOKEN_LIFETIME", CLIENT_TOKEN_LIFE);
        let client = world.mesh.run(world.mesh.node(0), CLIENT, run, CONNECTED);
        let scene = Self {
            cell,
            world,
            before,
            endpoints: endpoints.into(),
            client: client.unwrap_or_else(|error| panic!("{error}")),
        };
        let connection = scene.up(|_| true, PATIENCE);
        scene.carried(&connection);
        scene.conforms(&connection);
        scene
    }

    /// What every implementation says in the same way (wire contract, section 9).
    fn conforms(&self, near: &Connection) {
        let labels = &near.labels;
        let node = labels.get("nodeName").map(String::as_str);
        assert_eq!(node, Some("node-1"), "where the client runs: {labels:?}");
        let mut audience: Option<Vec<String>> = None;
        for segment in &near.path.path_segments {
            let claims = decode_unverified(&segment.token).unwrap();
            if let Some(audience) = audience {
                assert!(
                    audience.contains(&claims.sub),
                    "{audience:?} and {}",
                    claims.sub
                );
            }
            audience = Some(claims.aud);
        }
        // The endpoint's side has chosen (sdk `mechanisms/vxlan/vni/server.go`).
        let far = seen(self.world, 1).expect("the far manager knows the connection");
        let parameter = |key: &str| {
            far.mechanism
                .parameters
                .get(key)
                .cloned()
                .unwrap_or_default()
        };
        assert_eq!(far.mechanism.r#type, "VXLAN");
        let address = |key: &str| -> IpAddr { parameter(key).parse().unwrap() };
        let vni: u32 = parameter("vni").parse().unwrap();
        let even = address("src_ip") <= address("dst_ip");
        assert_eq!(
            vni.is_multiple_of(2),
            even,
            "{:?}",
            far.mechanism.parameters
        );
    }

    /// The connection as the client's manager tells it, once it is up and as wanted.
    fn up(&self, wanted: impl Fn(&Connection) -> bool, time: Duration) -> Connection {
        let found = wait_for(time, || {
            let found = seen(self.world, 0)?;
            let up = found.state == State::UP && !found.network_service_endpoint_name.is_empty();
            (up && wanted(&found)).then_some(found)
        });
        found.unwrap_or_else(|| panic!("not within {time:?}: {:?}", seen(self.world, 0)))
    }

    /// The client reaches the endpoint that it was given, if anything carries packets.
    fn carried(&self, connection: &Connection) {
        let (prefix, _) = self.serving(connection);
        let context = &connection.context.ip_context;
        let mut given = context.dst_ip_addrs.iter();
        let far = given
            .find(|far| far.starts_with(prefix))
            .expect("its address");
        if self.cell.carries() {
            assert_eq!(links(self.client.pod.cell()), ["nsm-1"]);
            let far = far.split('/').next().unwrap();
            until("an echo", PATIENCE, || pings(self.client.pod.cell(), far));
        }
    }

    /// The endpoint that serves a connection, and what its addresses begin with.
    fn serving(&self, connection: &Connection) -> (&'static str, &Workload) {
        let name = &connection.network_service_endpoint_name;
        // Upstream's registry adds to names.
        let known = ENDPOINTS.iter().find(|(one, _)| name.starts_with(one));
        let (known, prefix) = known.unwrap_or_else(|| panic!("served by {name}"));
        let mut all = self.endpoints.iter().map(|(one, _)| one);
        let serving = all.find(|one| one.pod.name() == *known).unwrap();
        (prefix.split(".0/").next().unwrap(), serving)
    }

    /// The lease is prolonged twice, and nothing else changes: no packet is lost.
    fn refresh(&self) {
        let first = self.up(|_| true, PATIENCE);
        let flow = self.cell.carries().then(|| {
            let far = first.context.ip_context.dst_ip_addrs[0].split('/').next();
            let to = SocketAddr::new(far.unwrap().parse().unwrap(), ECHO);
            let flow = UdpFlow::start(self.client.pod.cell(), to, 100).unwrap();
            assert!(flow.wait_answer(flow.now(), PATIENCE), "packets pass");
            (flow.now(), flow, self.link())
        });
        let mut last = first.clone();
        for _ in 0..2 {
            let began = Instant::now();
            let next = self.up(|now| lease(now) > lease(&last), REFRESHED);
            println!("refreshed after {:?}", began.elapsed());
            last = next;
        }
        assert_eq!(stable(&last), stable(&first), "a refresh changes nothing");
        if let Some((began, flow, link)) = flow {
            let report = flow.report(began, flow.now());
            let lost = report.lost.saturating_sub(report.receive_drops);
            assert!(lost <= STALLED, "{report:?}");
            assert_eq!(self.link(), link, "the interface is the same one");
        }
    }

    /// The client's interface, with its number.
    fn link(&self) -> String {
        ip(self.client.pod.cell(), "-oneline link show nsm-1")
    }

    /// The endpoint dies; the other one serves.
    fn heal(&mut self) {
        let before = self.up(|_| true, PATIENCE);
        let died = self.serving(&before).1.pod.clone();
        died.kill();
        // Theirs keeps what the endpoint before gave, and adds (deployments-k8s issue 9888).
        let keeps = self.cell.theirs(Part::Client);
        let other = |now: &Connection| {
            now.network_service_endpoint_name != before.network_service_endpoint_name
                && (keeps || now.context.ip_context.dst_ip_addrs.len() == 1)
        };
        let after = self.up(other, HEALED);
        self.carried(&after);
        self.endpoints
            .retain(|(one, _)| one.pod.name() != died.name());
        assert_eq!(self.endpoints.len(), 1, "the other one is left");
    }

    /// The client ends in good order, the endpoint after it; nothing is left of either.
    fn close(self) {
        let (world, client) = (self.world, &self.client);
        let exit = client.process.stop(GRACE);
        assert!(exit.is_some(), "the client does not end");
        let quiet = || {
            let pods = self.endpoints.iter().map(|(one, _)| one.pod.cell());
            pods.chain([client.pod.cell()])
                .all(|pod| links(pod).is_empty())
        };
        until("no link in the pods", GONE, quiet);
        until("no link in the nodes", GONE, || nodes(world) == self.before);
        for at in [0, 1] {
            until("no row at the managers", GONE, || seen(world, at).is_none());
        }
        for (endpoint, _) in &self.endpoints {
            let exit = endpoint.process.stop(GRACE);
            assert!(exit.is_some(), "an endpoint does not end");
        }
        // Theirs say so in their logs when a call lacks what every call carries.
        for log in fs::read_dir(world.lab.logs()).unwrap().flatten() {
            let text = fs::read_to_string(log.path()).unwrap();
            let bad: Vec<_> = text
                .lines()
                .filter(|line| line.contains("bad metadata"))
                .collect();
            assert!(bad.is_empty(), "{bad:#?}");
        }
        // The one that died is registered until its lease ends.
        let ended = self.endpoints.iter().map(|(one, _)| one.pod.name());
        for name in ended {
            let row = format!("endpoint {name} ");
            until("its record is taken back", GONE, || {
                !raw::registry(world).iter().any(|one| one.starts_with(&row))
            });
        }
    }
}

/// The client's connection as a node's manager tells it.
fn seen(world: &World, at: usize) -> Option<Connection> {
    let target = raw::manager(world, at);
    let operator = raw::known(world, "operator/tests");
    let all = raw::speak(world, at, operator, async |raw| {
        raw::connections_of(raw, &target).await
    });
    let of_client = |one: &Connection| {
        let first = one.path.path_segments.first();
        first.is_some_and(|first| first.name == CLIENT)
    };
    all.unwrap().into_iter().find(of_client)
}

/// Until when the client's own token holds.
fn lease(connection: &Connection) -> (i64, i32) {
    let first = &connection.path.path_segments[0].expires;
    (first.seconds, first.nanos)
}

/// What a refresh leaves as it is.
fn stable(connection: &Connection) -> impl PartialEq + std::fmt::Debug + use<> {
    let segments = connection.path.path_segments.iter();
    (
        segments
            .map(|one| (one.name.clone(), one.id.clone()))
            .collect::<Vec<_>>(),
        connection.network_service_endpoint_name.clone(),
        connection.mechanism.clone(),
        connection.context.clone(),
    )
}

/// The kernels of the nodes.
fn nodes(world: &World) -> Census {
    let nodes = world.mesh.nodes().iter();
    nodes.flat_map(|node| kernel(node.node().cell())).collect()
}
