//! Messages, one file a package.

use std::{fs, path::Path};

use anyhow::{Context as _, anyhow};

use crate::Generated;

/// A group of packages that is generated into one crate.
struct Group {
    folder: &'static str,
    files: &'static [&'static str],
}

const GROUPS: [Group; 3] = [
    Group {
        folder: "crates/core/api/src/generated",
        files: &[
            "connectioncontext.proto",
            "connection.proto",
            "networkservice.proto",
            "registry.proto",
            "ipam.proto",
        ],
    },
    Group {
        folder: "crates/control/identity/src/generated",
        files: &["workload.proto", "authority.proto"],
    },
    Group {
        folder: "crates/control/registry/src/store/etcd/generated",
        files: &["etcd.proto"],
    },
];

pub(crate) fn generate(proto: &Path) -> anyhow::Result<Vec<Generated>> {
    let mut all = Vec::new();
    for group in GROUPS {
        let out = tempfile::tempdir()?;
        let descriptors = out.path().join("descriptors");
        let compiled = protox::Compiler::new([proto])?
            .include_imports(true)
            .open_files(group.files)
            .with_context(|| format!("compiling {:?}", group.files))?
            .encode_file_descriptor_set();
        fs::write(&descriptors, compiled)?;
        let code = out.path().join("code");
        fs::create_dir(&code)?;
        buffa_build::Config::new()
            .descriptor_set(&descriptors)
            .files(group.files)
            .map_type(buffa_build::MapRepr::BTreeMap)
            .generate_views(false)
            .preserve_unknown_fields(true)
            .file_per_package(true)
            .include_file("mod.rs")
            .out_dir(&code)
            .compile()
            .map_err(|error| anyhow!("{}: {error}", group.folder))?;
        for entry in fs::read_dir(&code)? {
            let entry = entry?;
            let text = fs::read_to_string(entry.path())?;
            all.push((Path::new(group.folder).join(entry.file_name()), text));
        }
    }
    all.sort();
    Ok(all)
}
