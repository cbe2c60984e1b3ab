//! The matrix: each part of a path from the other implementation with the rest ours, and ours with
//! the rest from there. In each cell a client connects across two nodes, refreshes twice, moves to
//! another endpoint when its own dies, and closes; then nothing is left.

use std::cell::RefCell;

use nsm_lab::mesh::MeshConfig;

use crate::{Outcome, peers::Peers, scene::Scene, world::Shape};

/// A part of the path that can be either implementation's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
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

/// How long the other tokens live. Theirs take an endpoint out of the registry that much before
/// its token expires as a call may take, 15 s (sdk `registry/common/expire/nse_server.go`).
const TOKEN_LIFE: &str = "60s";
/// How long a request may take. Theirs end a lease that much before its token expires (sdk
/// `timeout/server.go`).
const REQUEST_TIMEOUT: &str = "5s";

impl Cell {
    fn name(&self) -> String {
        let named = |part| PARTS.iter().find(|(one, _)| *one == part).unwrap().1;
        match self.0 {
            Theirs::Only(part) => format!("matrix::{} theirs", named(part)),
            Theirs::AllBut(part) => format!("matrix::{} ours", named(part)),
        }
    }

    /// Whether a part is theirs.
    pub(crate) fn theirs(&self, part: Part) -> bool {
        match self.0 {
            Theirs::Only(one) => one == part,
            Theirs::AllBut(one) => one != part && part != Part::Hop,
        }
    }

    /// Whether there is a way for packets.
    pub(crate) fn carries(&self) -> bool {
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
