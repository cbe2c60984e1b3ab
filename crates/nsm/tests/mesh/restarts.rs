//! Roles that are killed and start again: packets flow throughout.

use std::{net::SocketAddr, time::Duration};

use nsm_lab::{
    Process,
    measure::UdpFlow,
    mesh::{MeshConfig, Workload},
    serve,
};

use crate::{
    Group,
    census::links,
    world::{CONNECTED, PATIENCE, Shape, World, addresses, count, end, pings, until},
};

/// See the module.
pub(crate) const GROUP: Group = Group {
    name: "restarts",
    mesh: || Shape {
        nodes: &["node-1", "node-2"],
        config: MeshConfig {
            env: [("NSM_MAX_TOKEN_LIFETIME".to_owned(), "60s".to_owned())].into(),
            ..MeshConfig::default()
        },
    },
    rows: &[
        ("the client's manager", |world| {
            restarted(world, "manager", 0)
        }),
        ("the endpoint's manager", |world| {
            restarted(world, "manager", 1)
        }),
        ("the client's forwarder", |world| {
            restarted(world, "forwarder", 0)
        }),
        ("the endpoint's forwarder", |world| {
            restarted(world, "forwarder", 1)
        }),
        ("the registry", |world| restarted(world, "registry", 0)),
    ],
};

const ECHO: u16 = 7;
/// How long after a restart everything must be known again.
const KNOWN_AGAIN: Duration = Duration::from_secs(15);

/// A client of an endpoint, with packets between them.
pub(crate) struct Pair {
    endpoint: Workload,
    pub(crate) client: Workload,
    pub(crate) flow: UdpFlow,
    _server: Process,
}

impl Pair {
    /// Ends both, and sees that nothing is left of them.
    pub(crate) fn end(self) {
        let Pair {
            endpoint,
            client,
            flow,
            ..
        } = self;
        drop(flow);
        let pod = client.pod.cell().clone();
        crate::world::stopped(&client.process);
        until("its interface is gone", Duration::from_secs(3), || {
            links(&pod).is_empty()
        });
        until("the other end too", Duration::from_secs(3), || {
            links(endpoint.pod.cell()).is_empty()
        });
        client.pod.kill();
        end(endpoint);
    }
}

/// Every packet since then came back.
pub(crate) fn nothing_lost(flow: &UdpFlow, mark: Duration) {
    let report = flow.report(mark, flow.now());
    let lost = report.lost.saturating_sub(report.receive_drops);
    assert_eq!(lost, 0, "{report:?}");
}

pub(crate) fn pair(world: &World, name: &str, at: usize) -> Pair {
    let endpoint = world.endpoint(at, &format!("{name}-nse"), name, &[]);
    let server = serve::start(endpoint.pod.cell(), &[], &[ECHO]).unwrap();
    let client = world.client(
        0,
        &format!("{name}-nsc"),
        &format!("kernel://{name}/nsm-1"),
        &[],
    );
    let peer = addresses(&client).1[0].clone();
    let to = SocketAddr::new(peer.parse().unwrap(), ECHO);
    let flow = UdpFlow::start(client.pod.cell(), to, 200).unwrap();
    assert!(flow.wait_answer(flow.now(), PATIENCE), "packets pass");
    Pair {
        endpoint,
        client,
        flow,
        _server: server,
    }
}

fn restarted(world: &World, role: &str, at: usize) {
    let name = format!("r-{role}-{at}");
    let pairs = [
        pair(world, &format!("{name}-near"), 0),
        pair(world, &format!("{name}-far"), 1),
    ];
    let cells: Vec<_> = pairs
        .iter()
        .flat_map(|pair| [pair.client.pod.cell(), pair.endpoint.pod.cell()])
        .collect();
    let before = world.census(&cells);
    let marks: Vec<_> = pairs.iter().map(|pair| pair.flow.now()).collect();
    let node = world.mesh.node(at);
    node.kill(role);
    std::thread::sleep(Duration::from_millis(300));
    match role {
        "manager" => world.mesh.manager(node),
        "forwarder" => world.mesh.forwarder(node),
        _ => world.mesh.registry(),
    }
    .unwrap();
    world.as_before_within(&before, &cells, KNOWN_AGAIN);
    for pair in &pairs {
        assert_eq!(links(pair.client.pod.cell()), ["nsm-1"], "one interface");
    }
    // New ones as ever.
    for (number, service) in ["near", "far"].into_iter().enumerate() {
        let url = format!("kernel://{name}-{service}/nsm-1");
        let next = world.asking(0, &format!("{name}-new-{number}"), &url, &[]);
        until("a new connection", PATIENCE, || {
            count(&next.log, CONNECTED) == 1
        });
        assert!(pings(next.pod.cell(), &addresses(&next).1[0]), "{service}");
        end(next);
    }
    for (pair, mark) in pairs.iter().zip(marks) {
        nothing_lost(&pair.flow, mark);
    }
    pairs.into_iter().for_each(Pair::end);
    let mine = format!(": connection of {name}");
    until("no connection is left", Duration::from_secs(5), || {
        let tables = world.tables();
        !tables.iter().any(|row| row.contains(&mine))
    });
}
