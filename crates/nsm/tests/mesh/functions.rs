//! What becomes of a client that reaches its endpoint through a function, when the endpoint or the
//! function dies.

use std::{net::SocketAddr, time::Duration};

use nsm_lab::{
    Cell, Lost, Silence,
    measure::UdpFlow,
    mesh::{MeshConfig, Workload},
    serve,
};

use crate::{
    Group,
    drains::{operator, tool},
    orders::{register, route},
    world::{PATIENCE, Shape, World, count, end, ip, last, until},
};

/// See the module.
pub(crate) const GROUP: Group = Group {
    name: "functions",
    mesh: || Shape {
        nodes: &["node-1", "node-2"],
        config: MeshConfig::default(),
    },
    rows: &[
        ("the endpoint behind is killed, one node", |world| {
            behind_killed(world, "fn-near", [0, 0], OTHERS);
        }),
        ("the endpoint behind is killed, two nodes", |world| {
            behind_killed(world, "fn-far", [1, 0], OTHERS);
        }),
        ("the endpoint behind is killed, addresses stay", |world| {
            behind_killed(world, "fn-kept", [1, 1], KEPT);
        }),
        ("the function is killed and back, one node", |world| {
            killed_and_back(world, "fn-back-near", [0, 0], false);
        }),
        ("the function is killed and back, two nodes", |world| {
            killed_and_back(world, "fn-back-far", [1, 0], true);
        }),
        ("the only endpoint behind is away", behind_away),
        ("the node of the endpoint behind is drained", behind_drained),
        ("the way to the endpoint behind is silent", behind_silent),
        ("interfaces of a chain are removed, one node", |world| {
            by_hand(world, "fn-del-near", [0, 0], "link del", BOUND_MS);
        }),
        ("interfaces of a chain are removed, two nodes", |world| {
            by_hand(world, "fn-del-far", [1, 1], "link del", BOUND_MS);
        }),
        ("interfaces of a chain are set down, one node", |world| {
            by_hand(world, "fn-down-near", [0, 0], "down", DOWN_MS);
        }),
        ("interfaces of a chain are set down, two nodes", |world| {
            by_hand(world, "fn-down-far", [1, 1], "down", DOWN_MS);
        }),
    ],
};

const ECHO: u16 = 7;
/// What both endpoints have, whatever their own addresses are.
const SERVICE_ADDRESS: &str = "192.168.200.1";
/// Prefixes of the two endpoints.
const OTHERS: [&str; 2] = ["10.5.1.0/24", "10.5.2.0/24"];
const KEPT: [&str; 2] = ["10.5.0.0/24", "10.5.0.0/24"];
/// In a debug build, beside other meshes; what is promised is told in docs/reliability.md.
const BOUND_MS: f64 = 1000.0;
/// The same for an interface that is set down.
const DOWN_MS: f64 = 200.0;

/// A client on the first node, a function, and endpoints behind it.
struct Chain {
    name: String,
    wall: Option<Workload>,
    gates: Vec<Workload>,
    client: Workload,
    flow: UdpFlow,
}

impl Chain {
    /// Function and endpoints on these nodes; as many endpoints as there are prefixes.
    fn up(world: &World, name: &str, [wall_at, gate_at]: [usize; 2], prefixes: &[&str]) -> Self {
        let matches = vec![
            route(&[("app", "wall")], &[("app", "gate")]),
            route(&[], &[("app", "wall")]),
        ];
        register(world, name, matches);
        let gates = (1..)
            .zip(prefixes)
            .map(|(number, prefix)| gate(world, name, number, gate_at, prefix));
        let gates = gates.collect();
        let wall = wall(world, name, wall_at);
        let url = format!("kernel://{name}/nsm-1");
        let client = world.client(0, &format!("{name}-nsc"), &url, &[]);
        let to: SocketAddr = format!("{SERVICE_ADDRESS}:{ECHO}").parse().unwrap();
        let flow = UdpFlow::start(client.pod.cell(), to, 500).unwrap();
        assert!(flow.wait_answer(flow.now(), PATIENCE), "packets pass");
        Self {
            name: name.to_owned(),
            wall: Some(wall),
            gates,
            client,
            flow,
        }
    }

    /// Takes the endpoint that the client speaks to, which its peer's address tells, or its only
    /// interface.
    fn used(&mut self) -> Workload {
        let serves = |gate: &Workload| !crate::census::links(gate.pod.cell()).is_empty();
        let at = self.gates.iter().position(serves).unwrap();
        self.gates.remove(at)
    }

    /// How long no packets came, from then on until they do again.
    fn outage(&self, from: Duration) -> f64 {
        let mark = self.flow.now();
        assert!(self.flow.wait_answer(mark, PATIENCE), "packets pass again");
        let outage = self.flow.report(from, self.flow.now()).outage_ms;
        println!("{}: outage {outage} ms", self.name);
        outage
    }

    fn end(self) {
        let Self {
            wall,
            gates,
            client,
            flow,
            ..
        } = self;
        drop(flow);
        end(client);
        gates.into_iter().chain(wall).for_each(end);
    }
}

fn gate(world: &World, name: &str, number: usize, at: usize, prefix: &str) -> Workload {
    let env = [
        ("NSM_REGISTER_SERVICE", "false"),
        ("NSM_LABELS", "app:gate"),
        ("NSM_CIDR_PREFIX", prefix),
        ("NSM_ROUTES", "192.168.200.0/24"),
    ];
    let gate = world.endpoint(at, &format!("{name}-gate-{number}"), name, &env);
    ip(
        gate.pod.cell(),
        &format!("addr add {SERVICE_ADDRESS}/32 dev lo"),
    );
    let _lives_with_its_pod = serve::start(gate.pod.cell(), &[], &[ECHO]).unwrap();
    gate
}

fn wall(world: &World, name: &str, at: usize) -> Workload {
    let env = [
        ("NSM_REGISTER_SERVICE", "false"),
        ("NSM_LABELS", "app:wall"),
        ("NSM_PASSTHROUGH", "true"),
    ];
    world.endpoint(at, &format!("{name}-wall"), name, &env)
}

/// Its interface's address is one of these endpoints'.
fn has_address_of(client: &Cell, prefix: &str) -> bool {
    let net = prefix.trim_end_matches("0/24");
    let shown = ip(client, "-o addr show nsm-1 scope global");
    shown.contains(&format!("inet {net}"))
}

fn behind_killed(world: &World, name: &str, at: [usize; 2], prefixes: [&str; 2]) {
    let mut chain = Chain::up(world, name, at, &prefixes);
    let used = chain.used();
    let began = chain.flow.now();
    used.pod.kill();
    let wall = chain.wall.as_ref().unwrap().log.clone();
    until("the function has another", PATIENCE, || {
        count(&wall, "healed") >= 1
    });
    let outage = chain.outage(began);
    let number = if used.pod.name().ends_with('1') { 1 } else { 0 };
    until(
        "addresses of the endpoint that is left alone",
        PATIENCE,
        || {
            has_address_of(chain.client.pod.cell(), prefixes[number])
                && (prefixes[0] == prefixes[1]
                    || !has_address_of(chain.client.pod.cell(), prefixes[1 - number]))
        },
    );
    assert!(outage < BOUND_MS, "{outage}");
    // What was told is over: a client does not ask again and again.
    std::thread::sleep(Duration::from_millis(500));
    let healed = count(&chain.client.log, "healed");
    assert!(healed <= 2, "{healed} heals at the client");
    chain.end();
}

/// A pod's namespace may outlive it for a moment, in whoever was sent its descriptor last: with
/// `settled` it ends with the pod.
fn killed_and_back(world: &World, name: &str, at: [usize; 2], settled: bool) {
    let mut chain = Chain::up(world, name, at, &[KEPT[0]]);
    if settled {
        std::thread::sleep(Duration::from_secs(1));
    }
    let began = chain.flow.now();
    let before = chain.wall.take().unwrap();
    before.pod.kill();
    chain.wall = Some(wall(world, name, at[0]));
    let back = chain.flow.now();
    until("healed", PATIENCE, || {
        count(&chain.client.log, "healed") >= 1
    });
    let outage = chain.outage(began) - 1000.0 * (back - began).as_secs_f64();
    println!("{name}: {outage} ms of that since the function is back");
    assert!(outage < BOUND_MS, "{outage}");
    let took = last(&chain.client.log, "healed")["took_ms"].to_string();
    let took: u64 = took.trim_matches('"').parse().unwrap();
    assert!(took < 800, "nobody waits for what nobody has: {took} ms");
    assert!(has_address_of(chain.client.pod.cell(), KEPT[0]));
    chain.end();
}

/// Nobody else is there, for longer than a client waits in between.
fn behind_away(world: &World) {
    let name = "fn-away";
    let mut chain = Chain::up(world, name, [0, 1], &[OTHERS[0]]);
    chain.used().pod.kill();
    std::thread::sleep(Duration::from_secs(4));
    let began = chain.flow.now();
    chain.gates.push(gate(world, name, 2, 1, OTHERS[1]));
    let back = chain.flow.now();
    let outage = chain.outage(began) - 1000.0 * (back - began).as_secs_f64();
    println!("{name}: {outage} ms of that since an endpoint is there");
    // The longest wait between two attempts is 2 s.
    assert!(outage < 2000.0 + BOUND_MS, "{outage}");
    chain.end();
}

/// The function moves before the endpoint leaves, and its client's addresses follow: what the
/// client sends from the old ones in between is lost.
fn behind_drained(world: &World) {
    let name = "fn-drained";
    let mut chain = Chain::up(world, name, [0, 1], &[OTHERS[0]]);
    chain.gates.push(gate(world, name, 2, 0, OTHERS[1]));
    let tools = operator(world);
    let mark = chain.flow.now();
    let said = tool(world, &tools, &["drain", "node-2"]);
    assert!(said.contains("moved"), "{said}");
    until("addresses of the other endpoint", PATIENCE, || {
        has_address_of(chain.client.pod.cell(), OTHERS[1])
            && !has_address_of(chain.client.pod.cell(), OTHERS[0])
    });
    let outage = chain.outage(mark);
    assert!(outage < BOUND_MS, "{outage}");
    tool(world, &tools, &["drain", "node-2", "--undo"]);
    chain.end();
}

/// Its node's manager and forwarder are as silent as the packets: nobody says goodbye.
fn behind_silent(world: &World) {
    let name = "fn-silent";
    let mut chain = Chain::up(world, name, [0, 1], &[OTHERS[0]]);
    chain.gates.push(gate(world, name, 2, 0, OTHERS[1]));
    // The way has been asked, and has answered.
    std::thread::sleep(Duration::from_secs(1));
    let nodes = [0, 1].map(|at| world.mesh.node(at).node());
    let began = chain.flow.now();
    let silence = Silence::start(nodes[0], nodes[1], Lost::Everything).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let outage = chain.outage(began);
    assert!(outage <= BOUND_MS, "{outage}");
    silence.end().unwrap();
    chain.end();
}

/// The interface of ours that a pod has as this side of a connection.
fn interface(pod: &Cell, side: &str) -> String {
    let shown = ip(pod, "-o link show");
    let is_it = |line: &&str| {
        let alias = line.split_once("alias nsm1:").map(|(_, alias)| alias);
        alias.is_some_and(|alias| {
            alias
                .split(':')
                .nth(1)
                .is_some_and(|at| at.starts_with(side))
        })
    };
    let line = shown.lines().find(is_it).unwrap();
    let name = line.split(' ').nth(1).unwrap();
    name.split(['@', ':']).next().unwrap().to_owned()
}

/// Somebody does this to each interface of a chain, one after the other: all is as before.
fn by_hand(world: &World, name: &str, at: [usize; 2], deed: &str, bound: f64) {
    let chain = Chain::up(world, name, at, &[KEPT[0]]);
    let (client, wall, gate) = (
        chain.client.pod.cell(),
        chain.wall.as_ref().unwrap().pod.cell(),
        chain.gates[0].pod.cell(),
    );
    let mut wrong = Vec::new();
    for (what, pod, side) in [
        ("the client's", client, "c"),
        ("the function's towards the client", wall, "e"),
        ("the function's towards the endpoint", wall, "c"),
        ("the endpoint's", gate, "e"),
    ] {
        // What was done before is settled.
        std::thread::sleep(Duration::from_millis(200));
        let interface = interface(pod, side);
        let command = match deed {
            "down" => format!("link set {interface} down"),
            _ => format!("{deed} {interface}"),
        };
        let began = chain.flow.now();
        assert_eq!(ip(pod, &command), "");
        print!("{deed}, {what}: ");
        let outage = chain.outage(began);
        if outage > bound {
            wrong.push(format!("{what}: {outage} ms"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    chain.end();
}
