//! What is played in each cell of the matrix: a client and two endpoints, from the first request
//! to the last close.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use nsm_api::connection::{Connection, State};
use nsm_identity::token::decode_unverified;
use nsm_lab::{Process, measure::UdpFlow, mesh::Workload, serve};

use crate::{
    census::{Census, kernel, links},
    matrix::{Cell, Part},
    peers::Peers,
    raw,
    world::{CONNECTED, PATIENCE, READY, World, ip, pings, until, wait_for},
};

/// How long a client's token lives: it asks again within a fifth to a third of that.
const CLIENT_TOKEN_LIFE: &str = "20s";
/// Within this a client has asked again, twice.
const REFRESHED: Duration = Duration::from_secs(30);
/// Within this a client has another endpoint: a lease and some dials.
const HEALED: Duration = Duration::from_secs(40);
/// Within this nothing is left.
const GONE: Duration = Duration::from_secs(40);
/// Within this a record is: the real programs leave theirs to the lease, of a minute.
const UNREGISTERED: Duration = Duration::from_secs(70);
/// How long a program of theirs may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// So many packets of a hundred a second may be lost while a busy machine stalls.
const STALLED: u64 = 10;
const ECHO: u16 = 7;
/// What an endpoint of theirs takes as the word to ask for refreshes.
const SIGHUP: i32 = 1;
const SERVICE: &str = "echo";
const CLIENT: &str = "nsc";
/// The endpoints' names and prefixes.
const ENDPOINTS: [(&str, &str); 2] = [("nse-a", "172.16.1.0/24"), ("nse-b", "172.16.2.0/24")];

/// A client and two endpoints of its service on the other node.
pub(crate) struct Scene<'a> {
    cell: &'a Cell,
    world: &'a World,
    before: Census,
    endpoints: Vec<(Workload, Process)>,
    client: Workload,
}

impl<'a> Scene<'a> {
    /// Starts them, and looks at what the connection is.
    pub(crate) fn connect(cell: &'a Cell, world: &'a World, peers: &Peers) -> Self {
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
            let run = run.env("NSM_REGISTER_SERVICE", if second { "0" } else { "1" });
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
            // What was replaced stays for answers under way, renamed.
            until("one interface", PATIENCE, || {
                links(self.client.pod.cell()) == ["nsm-1"]
            });
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

    /// The lease is prolonged twice, and nothing else changes.
    pub(crate) fn refresh(&self) {
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
        if self.cell.theirs(Part::Endpoint) && !self.cell.theirs(Part::Client) {
            self.refresh_as_asked();
        }
        assert_eq!(stable(&last), stable(&first), "a refresh changes nothing");
        if let Some((began, flow, link)) = flow {
            let report = flow.report(began, flow.now());
            let lost = report.lost.saturating_sub(report.receive_drops);
            assert!(lost <= STALLED, "{report:?}");
            assert_eq!(self.link(), link, "the interface is the same one");
        }
    }

    /// An endpoint of theirs asks for a refresh, and a client of ours asks again.
    fn refresh_as_asked(&self) {
        let connection = self.up(|_| true, PATIENCE);
        let endpoint = self.serving(&connection).1;
        endpoint.process.signal(SIGHUP).unwrap();
        let said = |what: &str| fs::read_to_string(&self.client.log).unwrap().contains(what);
        until("the client is asked", PATIENCE, || {
            said(r#""change":"Refresh""#)
        });
        until("the client asked again", PATIENCE, || {
            said(r#""message":"healed""#)
        });
    }

    /// The client's interface, with its number.
    fn link(&self) -> String {
        ip(self.client.pod.cell(), "-oneline link show nsm-1")
    }

    /// The endpoint dies; the other one serves.
    pub(crate) fn heal(&mut self) {
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
    pub(crate) fn close(self) {
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
            until("its record is taken back", UNREGISTERED, || {
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
