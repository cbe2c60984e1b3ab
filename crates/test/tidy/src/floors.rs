//! The floors: dependencies point down only.

/// A crate of the workspace as the manifest declares it.
#[derive(Debug, Clone)]
pub struct Crate {
    /// The package's name.
    pub name: String,
    /// `[package.metadata.nsm] floor`.
    pub floor: String,
    /// The manifest's folder below the root.
    pub folder: String,
    /// What it depends on.
    pub edges: Vec<Edge>,
}

/// One dependency.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The package depended on, ours or not.
    pub to: String,
    /// True for `[dev-dependencies]`, which ship nothing.
    pub dev: bool,
}

/// A floor and the floors that its crates may depend on.
const FLOORS: &[(&str, &[&str])] = &[
    ("core", &["core"]),
    ("data", &["core", "data"]),
    ("control", &["core", "control"]),
    ("lab", &["core", "data", "control", "lab"]),
    ("nsm", &["core", "data", "control", "lab"]),
    ("test", &["core", "data", "control", "lab", "nsm", "test"]),
];

/// Floors whose crates may live elsewhere too: the benches stand beside the tests.
const OUTSIDE: &[(&str, &str)] = &[("test", "benches")];

/// Crates of the control floor that touch interfaces: the forwarder makes everybody's, a workload
/// its own. Registry and manager never do.
const INTO_DATA: &[&str] = &["nsm-forwarder", "nsm-sdk"];

/// Crates that change the whole process, and who alone may: it happens once, at the door, before
/// there is a second thread.
const DOOR_ALONE: &[&str] = &["nsm-confine"];

/// What a floor's tests may use besides: the kit of this floor, and the stage for kernel truth.
const DEV: &[(&str, &[&str])] = &[
    ("core", &["test"]),
    ("data", &["test", "lab"]),
    ("control", &["test", "lab", "data"]),
    ("lab", &["test"]),
    ("nsm", &["test"]),
];

/// Crates from outside that a floor must not ship with, by the start of their name, and why.
const FOREIGN: &[(&str, &[&str], &str)] = &[
    (
        "core",
        &["tokio", "async-", "futures"],
        "no runtime in the core",
    ),
    (
        "core",
        &["rustix", "libc", "nix", "netlink", "socket2", "redb"],
        "no I/O in the core",
    ),
    (
        "core",
        &["rand", "getrandom", "ring"],
        "randomness and keys are arguments of the core",
    ),
    (
        "core",
        &["tonic", "hyper", "h2", "tower", "http"],
        "no gRPC in the core",
    ),
    (
        "data",
        &["tonic", "hyper", "h2", "tower"],
        "no gRPC on the data floor",
    ),
    (
        "control",
        &["netlink", "rtnetlink"],
        "interfaces are made on the data floor",
    ),
    ("control", &["anyhow"], "a library has error types"),
    ("data", &["anyhow"], "a library has error types"),
    ("core", &["anyhow"], "a library has error types"),
];

/// Crates that write code: what they write is committed, so only `crates/test` may use them.
const GENERATORS: &[&str] = &["buffa-build", "protox", "tonic-build", "prost-build"];

/// Every wrong edge and every misplaced crate, each by name.
#[must_use]
pub fn check(crates: &[Crate]) -> Vec<String> {
    crates
        .iter()
        .flat_map(|one| check_crate(one, crates))
        .collect()
}

fn check_crate(one: &Crate, crates: &[Crate]) -> Vec<String> {
    let Some((_, below)) = FLOORS.iter().find(|(floor, _)| *floor == one.floor) else {
        return vec![format!(
            "{}: no [package.metadata.nsm] floor, or an unknown one: {:?}",
            one.name, one.floor
        )];
    };
    let mut wrong = Vec::new();
    let home = format!("crates/{}", one.floor);
    let outside = OUTSIDE.contains(&(one.floor.as_str(), one.folder.as_str()));
    if one.folder != home && !one.folder.starts_with(&format!("{home}/")) && !outside {
        wrong.push(format!(
            "{}: is of floor {} but lives in {}",
            one.name, one.floor, one.folder
        ));
    }
    for edge in &one.edges {
        let complaint = match crates.iter().find(|other| other.name == edge.to) {
            Some(other) => inner(one, below, edge, other),
            None => outer(one, edge),
        };
        wrong.extend(complaint.map(|why| format!("{} -> {}: {why}", one.name, edge.to)));
    }
    wrong
}

/// An edge between two of our crates.
fn inner(one: &Crate, below: &[&str], edge: &Edge, other: &Crate) -> Option<String> {
    let floor = other.floor.as_str();
    let tests = DEV
        .iter()
        .find(|(name, _)| *name == one.floor)
        .map_or(&[][..], |(_, floors)| floors);
    let allowed = below.contains(&floor)
        || (edge.dev && tests.contains(&floor))
        || (floor == "data" && INTO_DATA.contains(&one.name.as_str()));
    if DOOR_ALONE.contains(&other.name.as_str()) && one.floor != "nsm" {
        return Some("it changes the whole process: for the door alone".to_owned());
    }
    (!allowed).then(|| {
        format!(
            "{} may not depend on {floor}: dependencies point down",
            one.floor
        )
    })
}

/// An edge to a crate from outside.
fn outer(one: &Crate, edge: &Edge) -> Option<String> {
    if edge.dev || one.floor == "test" {
        return None;
    }
    if GENERATORS.contains(&edge.to.as_str()) {
        return Some("generated code is committed; only crates/test generates".to_owned());
    }
    FOREIGN
        .iter()
        .find(|(floor, names, _)| {
            *floor == one.floor && names.iter().any(|name| edge.to.starts_with(name))
        })
        .map(|(_, _, why)| (*why).to_owned())
}
