//! What an implementation of the API gets wrong first, asked of our manager, and of the forwarder,
//! endpoint and registry behind it, by a client on the Go libraries: `interop/go/internal/corners`
//! lists them.

use nsm_lab::{Exit, IDENTITY_FOLDER, Run, mesh::MeshConfig};

use crate::{
    Outcome,
    peers::Peers,
    world::{PATIENCE, Shape, World, end, lines},
};

/// There are so many; one that is left out by mistake is missed.
const COUNT: usize = 23;

/// Asks for all of them on one mesh.
pub(crate) fn run(outcome: &Outcome, peers: &Peers) {
    if !outcome.wanted("corners") {
        return;
    }
    let Some(program) = peers.program("corners") else {
        return outcome.skip("corners", "no program of theirs that asks");
    };
    let shape = Shape {
        nodes: &["node-1"],
        config: MeshConfig::default(),
    };
    outcome.mesh("corners", shape, |world| {
        let endpoint = world.endpoint(0, "nse", "echo", &[]);
        let pod = world.mesh.pod(world.mesh.node(0), "asker").unwrap();
        let cells = [endpoint.pod.cell(), pod.cell()];
        let before = settled(world, &cells);
        let manager = nsm_lab::mesh::manager_url();
        let arguments = program.args.iter().map(String::as_str);
        let arguments = arguments.chain(["--to", &manager, "--node", "node-1"]);
        let agent = format!("unix://{IDENTITY_FOLDER}/agent.sock");
        let log = world.lab.logs().join("asker.log");
        let run = Run::program(&program.path, arguments)
            .env("SPIFFE_ENDPOINT_SOCKET", agent)
            .log(&log);
        let exit = pod.cell().spawn(run).unwrap().wait(3 * PATIENCE);
        let told = lines(&log);
        outcome.run("corners::all are asked", || {
            assert_eq!((exit, told.len()), (Some(Exit::Code(0)), COUNT));
        });
        for line in &told {
            let name = format!("corners::{}", line["corner"].as_str().unwrap());
            outcome.run(&name, || assert!(line["ok"] == true, "{}", line["why"]));
        }
        outcome.run("corners::nothing is left", || {
            crate::world::until("as before", PATIENCE, || settled(world, &cells) == before);
        });
        end(endpoint);
    });
}

/// What there is, but for what the asker registered and leaves to its lease.
fn settled(world: &World, cells: &[&nsm_lab::Cell]) -> crate::census::Census {
    let mut census = world.census(cells);
    census.retain(|row| !row.contains(" asker-"));
    census
}
