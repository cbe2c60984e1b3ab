//! Our roles in the place of the Go implementation's: the other sides of a conversation that was
//! recorded of its real programs (`interop/recordings`) say again what they said, and what ours
//! says is compared with what theirs said.

use std::{fs, path::Path};

use nsm_lab::{Config, Exit, Lab, Network, Run, Spec};

use crate::{Outcome, common::runner::NSM, peers::Peers, world::PATIENCE};

/// The recordings, and the role that each is of.
const RECORDINGS: [(&str, &str); 5] = [
    ("client", "client"),
    ("endpoint", "endpoint"),
    ("manager-1", "manager"),
    ("manager-2", "manager"),
    ("registry", "registry"),
];

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../interop/recordings");

/// Replays one after the other, each in namespaces of its own.
pub(crate) fn run(outcome: &Outcome, peers: &Peers) {
    let wanted = |name: &str| outcome.wanted(&format!("replay::{name}"));
    let recordings: Vec<_> = RECORDINGS.iter().filter(|(name, _)| wanted(name)).collect();
    if recordings.is_empty() {
        return;
    }
    let Some(program) = peers.program("replay") else {
        return outcome.skip("replay", "no program of theirs that replays");
    };
    let lab = Lab::new(&Config::default()).unwrap();
    for (name, role) in recordings {
        outcome.run(&format!("replay::{name}"), || {
            let cell = lab.start(Spec::new(*name, Network::Own)).unwrap();
            let log = lab.logs().join(format!("{name}.log"));
            let recording = format!("{FOLDER}/{name}.jsonl");
            let allowed = format!("{FOLDER}/allowances.yaml");
            let arguments = program.args.iter().map(String::as_str);
            let arguments = arguments.chain(["--allow", &allowed, &recording, "--", NSM, role]);
            let exit = cell
                .spawn(Run::program(&program.path, arguments).log(&log))
                .unwrap()
                .wait(3 * PATIENCE);
            let said = fs::read_to_string(&log).unwrap();
            println!("{}", said.lines().last().unwrap_or_default());
            assert_eq!(exit, Some(Exit::Code(0)), "{said}");
        });
    }
    let left = lab.down();
    assert!(left.is_empty() && Path::new(FOLDER).is_dir(), "{left:?}");
}
