//! Control planes that stay away for longer than leases, and new versions put in place of old ones:
//! nothing is lost, the same interfaces stay.

use std::{thread::sleep, time::Duration};

use nsm_lab::{Exit, mesh::MeshConfig};

use crate::{
    Group,
    restarts::{Pair, pair},
    world::{CONNECTED, PATIENCE, Shape, World, addresses, count, end, pings, until},
};

/// How long a lease is.
const LEASE: Duration = Duration::from_secs(6);

/// See the module.
pub(crate) const GROUP: Group = Group {
    name: "outages",
    mesh: || Shape {
        nodes: &["node-1", "node-2"],
        config: MeshConfig {
            env: [("NSM_MAX_TOKEN_LIFETIME".to_owned(), "6s".to_owned())].into(),
            ..MeshConfig::default()
        },
    },
    rows: &[
        ("the far manager is away for three leases", |world| {
            away(world, "far", &[("manager", 1)])
        }),
        ("everything is away for three leases", |world| {
            let all = [
                ("registry", 0),
                ("manager", 0),
                ("manager", 1),
                ("forwarder", 0),
                ("forwarder", 1),
            ];
            away(world, "all", &all);
        }),
        ("each role is ended and started again", upgraded),
    ],
};

/// A role and the place of its node.
type At = (&'static str, usize);

fn begin(world: &World, (role, at): At) {
    let node = world.mesh.node(at);
    match role {
        "manager" => world.mesh.manager(node),
        "forwarder" => world.mesh.forwarder(node),
        _ => world.mesh.registry(),
    }
    .unwrap();
}

fn pairs(world: &World, name: &str) -> [Pair; 2] {
    [
        pair(world, &format!("{name}-near"), 0),
        pair(world, &format!("{name}-far"), 1),
    ]
}

fn index(pair: &Pair) -> u32 {
    pair.client.pod.cell().link_index("nsm-1").unwrap()
}

/// Kills these at once, and starts them again after three leases.
fn away(world: &World, name: &str, roles: &[At]) {
    let pairs = pairs(world, &format!("o-{name}"));
    let before = pairs.each_ref().map(|pair| (pair.flow.now(), index(pair)));
    for (role, at) in roles {
        world.mesh.node(*at).kill(role);
    }
    sleep(LEASE * 3);
    for role in roles {
        begin(world, *role);
    }
    // As long again as a lease that nobody could refresh might still end in.
    sleep(LEASE * 2);
    unharmed(&pairs, &before);
    new_ones(world, &format!("o-{name}"));
    pairs.into_iter().for_each(Pair::end);
}

/// What an upgrade does, in an order that nobody would choose.
fn upgraded(world: &World) {
    let pairs = pairs(world, "o-up");
    let before = pairs.each_ref().map(|pair| (pair.flow.now(), index(pair)));
    for role in [
        ("forwarder", 1),
        ("manager", 0),
        ("registry", 0),
        ("manager", 1),
        ("forwarder", 0),
    ] {
        let exit = world.mesh.node(role.1).stop(role.0);
        assert_eq!(exit, Some(Exit::Code(0)), "{role:?} ends in good order");
        begin(world, role);
    }
    sleep(LEASE * 2);
    unharmed(&pairs, &before);
    new_ones(world, "o-up");
    pairs.into_iter().for_each(Pair::end);
}

fn unharmed(pairs: &[Pair; 2], before: &[(Duration, u32); 2]) {
    for (pair, (mark, before)) in pairs.iter().zip(before) {
        let report = pair.flow.report(*mark, pair.flow.now());
        let name = pair.client.pod.name();
        assert_eq!(report.lost, 0, "{name}: {report:?}");
        assert_eq!(index(pair), *before, "{name}: the same interface");
    }
}

fn new_ones(world: &World, name: &str) {
    for (number, service) in ["near", "far"].into_iter().enumerate() {
        let url = format!("kernel://{name}-{service}/nsm-1");
        let next = world.asking(0, &format!("{name}-new-{number}"), &url, &[]);
        until("a new connection", PATIENCE, || {
            count(&next.log, CONNECTED) == 1
        });
        assert!(pings(next.pod.cell(), &addresses(&next).1[0]), "{service}");
        end(next);
    }
}
