//! A node that is emptied: its clients go elsewhere without losing a packet, and nobody new comes
//! to its endpoints until an operator says so, whoever restarts meanwhile.

use std::{fs, time::Duration};

use nsm_lab::{Cell, Exit, IDENTITY_FOLDER, Run, mesh::MeshConfig, serve};

use crate::{
    Group,
    restarts::{nothing_lost, pair},
    world::{CONNECTED, PATIENCE, Shape, World, count, end, until},
};

/// See the module.
pub(crate) const GROUP: Group = Group {
    name: "drains",
    mesh: || Shape {
        nodes: &["node-1", "node-2"],
        config: MeshConfig::default(),
    },
    rows: &[("a node, with a restart of its manager", node)],
};

const ECHO: u16 = 7;

/// Where an operator's tools run, on the first node.
pub(crate) fn operator(world: &World) -> Cell {
    let tools = world.mesh.stranger(world.mesh.node(0), "tools").unwrap();
    world.mesh.node(0).enroll(&tools, "operator/tests").unwrap();
    tools
}

/// Runs one of them: what it printed.
pub(crate) fn tool(world: &World, tools: &Cell, args: &[&str]) -> String {
    let log = world.lab.logs().join("tools.log");
    let run = Run::nsm(args.iter().copied())
        .env(
            "SPIFFE_ENDPOINT_SOCKET",
            format!("unix://{IDENTITY_FOLDER}/agent.sock"),
        )
        .env("NSM_REGISTRY_URL", world.mesh.registry_url())
        .log(&log);
    let exit = tools.spawn(run).unwrap().wait(PATIENCE);
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(exit, Some(Exit::Code(0)), "nsm {args:?}: {said}");
    said
}

fn node(world: &World) {
    let tools = operator(world);
    let pair = pair(world, "drained", 1);
    let other = world.endpoint(0, "drained-other", "drained", &[]);
    let server = serve::start(other.pod.cell(), &[], &[ECHO]).unwrap();
    let mark = pair.flow.now();
    let said = tool(world, &tools, &["drain", "node-2"]);
    for line in ["endpoint/drained-nse takes nobody new", "moved"] {
        assert!(said.contains(line), "{line:?}: {said}");
    }
    // The way before is taken down behind the packets on it.
    std::thread::sleep(Duration::from_secs(1));
    nothing_lost(&pair.flow, mark);

    let manager = world.mesh.node(1);
    manager.kill("manager");
    world.mesh.manager(manager).unwrap();
    drop(server);
    end(other);
    let url = "kernel://drained/nsm-1";
    let next = world.asking(0, "drained-next", url, &[]);
    let refusal = world.complaint(&next);
    assert!(refusal.contains("is being drained"), "{refusal}");
    let said = tool(world, &tools, &["drain", "node-2", "--undo"]);
    assert!(said.contains("takes clients again"), "{said}");
    until("it takes clients again", PATIENCE, || {
        count(&next.log, CONNECTED) == 1
    });
    until("who was moved comes back", PATIENCE, || {
        count(&pair.client.log, "healed") == 2
    });
    end(next);
    pair.end();
}
