//! Dependencies point down: the workspace as cargo sees it, and planted wrong edges.

use cargo_metadata::{CargoOpt, DependencyKind, MetadataCommand};
use nsm_tidy::{
    floors::{Crate, Edge, check},
    tree,
};

fn workspace() -> Vec<Crate> {
    let metadata = MetadataCommand::new()
        .current_dir(tree::root())
        .no_deps()
        .features(CargoOpt::AllFeatures)
        .exec()
        .expect("cargo metadata");
    metadata
        .packages
        .iter()
        .map(|package| Crate {
            name: package.name.to_string(),
            floor: package.metadata["nsm"]["floor"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            folder: package
                .manifest_path
                .parent()
                .and_then(|folder| folder.strip_prefix(&metadata.workspace_root).ok())
                .map(ToString::to_string)
                .unwrap_or_default(),
            edges: package
                .dependencies
                .iter()
                .map(|dependency| Edge {
                    to: dependency.name.clone(),
                    dev: dependency.kind == DependencyKind::Development,
                })
                .collect(),
        })
        .collect()
}

#[test]
fn dependencies_point_down() {
    let crates = workspace();
    assert!(
        crates.len() >= 10,
        "cargo metadata lists {} crates",
        crates.len()
    );
    assert_eq!(check(&crates), Vec::<String>::new());
}

/// Crates for planted edges: name, floor, folder.
const CRATES: [(&str, &str, &str); 8] = [
    ("nsm-model", "core", "crates/core/model"),
    ("nsm-kernel", "data", "crates/data/kernel"),
    ("nsm-confine", "data", "crates/data/confine"),
    ("nsm-registry", "control", "crates/control/registry"),
    ("nsm-forwarder", "control", "crates/control/forwarder"),
    ("nsm-lab", "lab", "crates/lab"),
    ("nsm", "nsm", "crates/nsm"),
    ("nsm-tidy", "test", "crates/test/tidy"),
];

/// Planted edges: from, to, only for tests, allowed.
const EDGES: &[(&str, &str, bool, bool)] = &[
    ("nsm-kernel", "nsm-model", false, true),
    ("nsm-model", "nsm-kernel", false, false),
    ("nsm-model", "nsm-kernel", true, false),
    ("nsm-kernel", "nsm-registry", false, false),
    ("nsm-kernel", "nsm-lab", true, true),
    ("nsm-kernel", "nsm-lab", false, false),
    ("nsm-registry", "nsm-model", false, true),
    ("nsm-registry", "nsm-kernel", false, false),
    ("nsm-forwarder", "nsm-kernel", false, true),
    ("nsm-forwarder", "nsm", false, false),
    ("nsm-forwarder", "nsm-confine", false, false),
    ("nsm-lab", "nsm-confine", false, false),
    ("nsm", "nsm-confine", false, true),
    ("nsm-lab", "nsm-registry", false, true),
    ("nsm-lab", "nsm", false, false),
    ("nsm", "nsm-lab", false, true),
    ("nsm", "nsm-tidy", false, false),
    ("nsm", "nsm-tidy", true, true),
    ("nsm-tidy", "nsm", false, true),
    ("nsm-model", "tokio", false, false),
    ("nsm-model", "proptest", true, true),
    ("nsm-kernel", "tonic", false, false),
    ("nsm-registry", "buffa-build", false, false),
    ("nsm-registry", "anyhow", false, false),
    ("nsm", "anyhow", false, true),
];

#[test]
fn a_wrong_edge_is_named() {
    for &(from, to, dev, allowed) in EDGES {
        let plant = |(name, floor, folder): (&str, &str, &str)| Crate {
            name: name.to_owned(),
            floor: floor.to_owned(),
            folder: folder.to_owned(),
            edges: (name == from)
                .then(|| Edge {
                    to: to.to_owned(),
                    dev,
                })
                .into_iter()
                .collect(),
        };
        let crates: Vec<Crate> = CRATES.into_iter().map(plant).collect();
        let wrong = check(&crates);
        assert_eq!(wrong.is_empty(), allowed, "{from} -> {to}: {wrong:?}");
        if !allowed {
            assert!(
                wrong[0].starts_with(&format!("{from} -> {to}: ")),
                "{wrong:?}"
            );
        }
    }
}

#[test]
fn a_crate_without_a_floor_or_in_the_wrong_folder_is_named() {
    let one = |floor: &str, folder: &str| Crate {
        name: "stray".to_owned(),
        floor: floor.to_owned(),
        folder: folder.to_owned(),
        edges: Vec::new(),
    };
    for (floor, folder, wrong) in [
        ("core", "crates/core/stray", 0),
        ("lab", "crates/lab", 0),
        ("", "crates/core/stray", 1),
        ("attic", "crates/attic/stray", 1),
        ("core", "crates/control/stray", 1),
        ("core", "crates/corelike/stray", 1),
    ] {
        assert_eq!(
            check(&[one(floor, folder)]).len(),
            wrong,
            "{floor} in {folder}"
        );
    }
}
