//! A hostile or broken peer at our doors, on the Go libraries: what it is told, and that nothing
//! is left of it.

use std::{collections::BTreeSet, fs};

use nsm_lab::{Run, mesh::MeshConfig};
use serde_json::Value;

use crate::{
    Outcome,
    peers::Peers,
    world::{PATIENCE, Shape, World, end, lines, until},
};

/// Whom the peer calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Manager,
    Registry,
}

/// What a peer does, and what may come of it.
struct Row {
    /// The row's name.
    name: &'static str,
    door: Door,
    arguments: &'static str,
    /// By case: the code ([`AS_HONEST`] is the honest peer's), or one of
    /// several, and a part of the message; a case
    /// that is not named fails.
    answers: &'static [(&'static str, &'static str, &'static str)],
}

/// The answer of a call that is made as it should be.
const AS_HONEST: &str = "as an honest one";
/// What an honest peer gets by its call; its request is refused late, for want of a namespace.
const HONEST: &[(&str, &str)] = &[("request", WRONG), ("register", "OK")];
const UNPROVED: &str = "Unauthenticated";
const DENIED: &str = "PermissionDenied";
const WRONG: &str = "InvalidArgument";

/// What a token that is no good is answered, whatever call it comes with.
const TOKENS: &[(&str, &str, &str)] = &[
    ("alg-none", UNPROVED, "only ES256 is accepted"),
    ("audience-text", AS_HONEST, ""),
    ("bad-expiry", WRONG, "nsm-client-token-expires"),
    ("bad-signature", UNPROVED, "is not signed by"),
    ("clock-ahead", AS_HONEST, ""),
    ("clock-behind", DENIED, "expired"),
    ("expired", DENIED, "expired"),
    ("honest", AS_HONEST, ""),
    ("huge-token", "Internal", "header list size"),
    ("missing-expiry", WRONG, "nsm-client-token-expires"),
    ("no-audience", DENIED, "meant for"),
    ("no-exp", UNPROVED, "exp"),
    ("no-token", UNPROVED, "token"),
    ("not-a-token", UNPROVED, "malformed"),
    ("over-long", AS_HONEST, ""),
    ("rsa-token", UNPROVED, "only ES256 is accepted"),
    ("two-expiries", WRONG, "nsm-client-token-expires"),
    ("two-tokens", WRONG, "nsm-client-token"),
    ("wrong-audience", DENIED, "meant for"),
    (
        "wrong-subject",
        UNPROVED,
        "a token speaks only for its signer",
    ),
];

const ROWS: &[Row] = &[
    Row {
        name: "tokens with a request",
        door: Door::Manager,
        arguments: "--call request honest all-tokens",
        answers: TOKENS,
    },
    Row {
        name: "tokens with a registration",
        door: Door::Manager,
        arguments: "--call register honest all-tokens",
        answers: TOKENS,
    },
    Row {
        name: "tokens with a registration at the registry",
        door: Door::Registry,
        arguments: "--call register honest all-tokens",
        answers: TOKENS,
    },
    Row {
        name: "somebody else's connection",
        door: Door::Manager,
        arguments: "--id victim-0 --hop victim foreign-request foreign-close foreign-monitor",
        // An id is its maker's own: under another identity it names another connection, or none.
        // Paths that go on at a hop's id are in the tests of trust.
        answers: &[
            ("foreign-request", WRONG, "inodeURL"),
            ("foreign-close", "OK", ""),
            ("foreign-monitor", DENIED, "mallory"),
        ],
    },
    Row {
        name: "all connections",
        door: Door::Manager,
        arguments: "monitor-all",
        answers: &[("monitor-all", "OK", "")],
    },
    Row {
        name: "somebody else's name",
        door: Door::Registry,
        arguments: "--name forwarder-node-1 --service forwarder forged-owner wrong-registrar",
        answers: &[
            ("forged-owner", DENIED, ""),
            ("wrong-registrar", DENIED, ""),
        ],
    },
    Row {
        name: "paths without measure",
        door: Door::Manager,
        arguments: "--count 200 giant-path index-beyond",
        answers: &[
            ("giant-path", WRONG, "path"),
            ("index-beyond", UNPROVED, "path segment"),
        ],
    },
    Row {
        name: "a message beyond what gRPC takes",
        door: Door::Manager,
        arguments: "oversized",
        answers: &[("oversized", "OutOfRange", "")],
    },
    Row {
        name: "descriptors that are something else",
        door: Door::Manager,
        arguments: "--service echo descriptor-file descriptor-socket",
        answers: &[
            ("descriptor-file", WRONG, "network namespace"),
            ("descriptor-socket", WRONG, "network namespace"),
        ],
    },
    Row {
        name: "a descriptor that never comes",
        door: Door::Manager,
        arguments: "--service echo --wait 5s descriptor-absent",
        answers: &[(
            "descriptor-absent",
            "InvalidArgument",
            "did not arrive in time",
        )],
    },
    Row {
        name: "10,000 descriptors that nobody asked for",
        door: Door::Manager,
        arguments: "--count 10000 descriptor-many",
        answers: &[("descriptor-many", "OK", "")],
    },
    Row {
        name: "connections cut within a frame",
        door: Door::Manager,
        arguments: "--count 200 truncated",
        answers: &[("truncated", "OK", "")],
    },
];

/// The memory that a manager may keep of all this, KiB: the allocator's, which is given back late.
const MEMORY_KIB: u64 = 24 * 1024;
const MALLORY: &str = "mallory";

/// Runs the table on one mesh.
pub(crate) fn run(outcome: &Outcome, peers: &Peers) {
    let name = |row: &str| format!("hostile::{row}");
    let rows: Vec<_> = ROWS
        .iter()
        .filter(|row| outcome.wanted(&name(row.name)))
        .collect();
    if rows.is_empty() {
        return;
    }
    if peers.program("hostile").is_none() {
        return outcome.skip("hostile", "no hostile program of theirs");
    }
    let config = MeshConfig::default();
    let shape = Shape {
        nodes: &["node-1"],
        config,
    };
    outcome.mesh("hostile", shape, |world| {
        let endpoint = world.endpoint(0, "nse", "echo", &[]);
        let victim = world.client(0, "victim", "kernel://echo/nsm-1", &[]);
        let pod = world.mesh.pod(world.mesh.node(0), MALLORY).unwrap();
        let cells = [endpoint.pod.cell(), victim.pod.cell(), pod.cell()];
        let left = |world: &World| {
            let mut census = world.census(&cells);
            // Its own name is its to register.
            census.retain(|row| !row.starts_with("endpoint mallory "));
            census
        };
        let before = left(world);
        let (open, used) = (descriptors(world), memory(world));
        for row in rows {
            outcome.run(&name(row.name), || {
                attack(world, peers, &pod, row);
                until("nothing is left", PATIENCE, || left(world) == before);
            });
        }
        outcome.run(&name("no descriptor and no memory is left"), || {
            until("as many descriptors as before", PATIENCE, || {
                descriptors(world) <= open
            });
            let memory = memory(world);
            assert!(memory <= used + MEMORY_KIB, "{memory} KiB after {used}");
        });
        outcome.run(&name("the victim did not notice"), || {
            let log = fs::read_to_string(&victim.log).unwrap();
            assert!(!log.contains("heal"), "{log}");
        });
        end(victim);
        end(endpoint);
    });
}

fn attack(world: &World, peers: &Peers, pod: &nsm_lab::Pod, row: &Row) {
    let door = match row.door {
        Door::Manager => nsm_lab::mesh::manager_url(),
        Door::Registry => world.mesh.registry_url(),
    };
    let log = world.lab.logs().join(format!("{MALLORY}.log"));
    drop(fs::remove_file(&log));
    let program = peers.program("hostile").unwrap();
    let arguments = program.args.iter().map(String::as_str);
    let arguments = arguments.chain(["--to", &door]);
    let run = Run::program(
        &program.path,
        arguments.chain(row.arguments.split_whitespace()),
    )
    .env(
        "SPIFFE_ENDPOINT_SOCKET",
        format!("unix://{}/agent.sock", nsm_lab::IDENTITY_FOLDER),
    )
    .log(&log);
    // The registry is not in the pod's network, as in a cluster where nothing hinders it.
    let exit = match row.door {
        Door::Manager => pod.cell().spawn(run).unwrap().wait(PATIENCE * 2),
        Door::Registry => {
            let node = world.mesh.node(0);
            let cell = world.mesh.stranger(node, MALLORY).unwrap();
            let exit = cell.spawn(run).unwrap().wait(PATIENCE * 2);
            cell.kill();
            node.enroll(pod.cell(), MALLORY).unwrap();
            exit
        }
    };
    assert_eq!(
        exit,
        Some(nsm_lab::Exit::Code(0)),
        "{}",
        fs::read_to_string(&log).unwrap()
    );
    let told: Vec<Value> = lines(&log);
    let honest = told.iter().find(|line| line["case"] == "honest");
    let mut missing: BTreeSet<_> = row.answers.iter().map(|(case, ..)| *case).collect();
    let mut wrong = Vec::new();
    for line in &told {
        let word = |key: &str| line[key].as_str().unwrap_or_default();
        let expected = row.answers.iter().find(|(one, ..)| *one == word("case"));
        let (case, codes, part) = expected.unwrap_or(&("", "", ""));
        missing.remove(case);
        let as_expected = match (*codes, honest) {
            (AS_HONEST, Some(honest)) => {
                line["code"] == honest["code"] && HONEST.contains(&(word("call"), word("code")))
            }
            (codes, _) => codes.split('|').any(|code| code == word("code")),
        };
        // Whoever watches is shown nothing that is not its own.
        let shown = case.contains("monitor") && !line["ids"].is_null();
        if !as_expected || !word("message").contains(part) || shown {
            wrong.push(line.to_string());
        }
    }
    assert!(
        wrong.is_empty() && missing.is_empty(),
        "missing {missing:?}: {wrong:#?}"
    );
}

/// The descriptors that the manager has open.
fn descriptors(world: &World) -> usize {
    let (_, pid) = world.mesh.node(0).role("manager").unwrap();
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The manager's memory, KiB.
fn memory(world: &World) -> u64 {
    let (_, pid) = world.mesh.node(0).role("manager").unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
