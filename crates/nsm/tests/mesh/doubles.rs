//! What is there twice: forwarders on one node, of two names and of one.

use std::{fs, path::PathBuf, time::Duration};

use nsm_lab::{Cell, Exit, IDENTITY_FOLDER, Process, mesh::MeshConfig, mesh::manager_url};

use crate::{
    Group,
    census::links,
    restarts::{nothing_lost, pair},
    world::{PATIENCE, READY, Shape, World, says, until},
};

/// See the module.
pub(crate) const GROUP: Group = Group {
    name: "doubles",
    mesh: || Shape {
        nodes: &["node-1", "node-2"],
        config: MeshConfig::default(),
    },
    rows: &[
        ("a node's name used twice", of_one_node),
        ("two forwarders of one name", of_one_name),
        ("two forwarders of two names", of_two_names),
    ],
};

/// How long after a start a forwarder sweeps, and a busy machine's allowance.
const SWEPT: Duration = Duration::from_secs(90);

/// A second forwarder in a node's network, with a state folder of its own.
fn beside(world: &World, name: &str) -> (Cell, Process, PathBuf) {
    let node = world.mesh.node(0);
    let cell = world
        .mesh
        .stranger(node, &format!("{name}-beside"))
        .unwrap();
    node.enroll(&cell, name).unwrap();
    let log = world.lab.logs().join(format!("{name}-beside.log"));
    let run = World::program("forwarder", &[])
        .env("NSM_NAME", name)
        .env("NODE_NAME", "node-1")
        .env("NSM_CONNECT_TO", manager_url())
        .env("NSM_LISTEN_ON", "unix:///run/forwarder/beside.sock")
        .env("NSM_TUNNEL_IP", node.node().addresses().v4.to_string())
        .env("NSM_STATE_DIR", "/tmp")
        .env("NSM_LOG_LEVEL", "INFO")
        .env(
            "SPIFFE_ENDPOINT_SOCKET",
            format!("unix://{IDENTITY_FOLDER}/agent.sock"),
        )
        .log(&log);
    let process = cell.spawn(run).unwrap();
    (cell, process, log)
}

/// A manager of the first node's name on the second node, beside that one's own.
fn of_one_node(world: &World) {
    let pairs = [pair(world, "d-near", 0), pair(world, "d-far", 1)];
    let marks: Vec<_> = pairs.iter().map(|pair| pair.flow.now()).collect();
    let node = world.mesh.node(1);
    let cell = world.mesh.stranger(node, "manager-double").unwrap();
    node.enroll(&cell, "manager-node-1").unwrap();
    let log = world.lab.logs().join("manager-double.log");
    let listen = format!(
        "unix:///run/manager/double.sock,tcp://{}:5999",
        node.node().addresses().v4
    );
    let run = World::program("manager", &[])
        .env("NSM_NAME", "manager-node-1")
        .env("NODE_NAME", "node-1")
        .env("NSM_LISTEN_ON", listen)
        .env("NSM_REGISTRY_URL", world.mesh.registry_url())
        .env("NSM_STATE_DIR", "/tmp")
        .env("NSM_LOG_LEVEL", "INFO")
        .env(
            "SPIFFE_ENDPOINT_SOCKET",
            format!("unix://{IDENTITY_FOLDER}/agent.sock"),
        )
        .log(&log);
    let process = cell.spawn(run).unwrap();
    let told = "another manager is registered under this name";
    let own = world.lab.logs().join("manager-node-1.log");
    until("one of them tells", PATIENCE, || {
        let logs = [&log, &own].map(|log| fs::read_to_string(log).unwrap_or_default());
        logs.iter().any(|log| log.contains(told))
    });
    let new = world.client(0, "d-new", "kernel://d-near/nsm-1", &[]);
    crate::world::end(new);
    for (pair, mark) in pairs.iter().zip(marks) {
        nothing_lost(&pair.flow, mark);
        assert_eq!(links(pair.client.pod.cell()), ["nsm-1"]);
    }
    process.signal(9).unwrap();
    cell.kill();
    pairs.into_iter().for_each(crate::restarts::Pair::end);
}

fn of_one_name(world: &World) {
    let pair = pair(world, "d-one", 0);
    let mark = pair.flow.now();
    let (cell, process, log) = beside(world, "forwarder-node-1");
    assert_eq!(process.wait(PATIENCE), Some(Exit::Code(1)));
    let text = fs::read_to_string(&log).unwrap();
    says(
        text.lines().last().unwrap_or_default(),
        &[
            "another forwarder named",
            "forwarder-node-1",
            "--name",
            "--state-dir",
        ],
    );
    cell.kill();
    nothing_lost(&pair.flow, mark);
    pair.end();
}

/// Each has a connection, each is started again and sweeps.
fn of_two_names(world: &World) {
    let node = world.mesh.node(0);
    let said = |log: &PathBuf, what: &str| {
        fs::read_to_string(log)
            .unwrap_or_default()
            .matches(what)
            .count()
    };
    let swept = "looked for links that nobody owns";
    let own = world.lab.logs().join("forwarder-node-1.log");
    let first = pair(world, "d-first", 0);
    let mark = first.flow.now();
    node.kill("forwarder");
    let (cell, process, log) = beside(world, "forwarder-two");
    until("the second one is ready", PATIENCE, || {
        said(&log, READY) == 1
    });
    let second = pair(world, "d-second", 0);
    let second_mark = second.flow.now();
    let before = said(&own, swept);
    world.mesh.forwarder(node).unwrap();
    until("both have swept", SWEPT, || {
        said(&own, swept) > before && said(&log, swept) == 1
    });
    for pair in [&first, &second] {
        assert_eq!(links(pair.client.pod.cell()), ["nsm-1"]);
    }
    nothing_lost(&first.flow, mark);
    nothing_lost(&second.flow, second_mark);
    first.end();
    second.end();
    crate::world::stopped(&process);
    cell.kill();
}
