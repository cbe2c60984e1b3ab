//! The programs of the other implementation.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use nsm_lab::{Run, mesh::Program};

/// Where the programs are that stand in for those of `interop/go`.
const FOLDER: &str = "NSM_INTEROP_PEERS";
/// The module that the programs are built from.
const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../interop/go");
/// Where the program is built to.
const BUILT: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/nsm-go");
/// Where it is kept why there is none.
const LACK: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/nsm-go.lack");

/// See the module.
#[derive(Debug)]
pub(crate) struct Peers(Option<PathBuf>);

/// Builds the programs of `interop/go`, or writes down what this machine lacks for it.
///
/// # Panics
/// They do not compile.
pub(crate) fn prepare() {
    for file in [BUILT, LACK] {
        drop(fs::remove_file(file));
    }
    if env::var_os(FOLDER).is_some() {
        return;
    }
    // What only needs the network is told apart from what needs mending.
    if let Err(lack) = go(&["mod", "download"]) {
        fs::write(LACK, lack).unwrap();
    } else if let Err(error) = go(&["build", "-o", BUILT, "."]) {
        panic!("interop/go does not build: {error}");
    }
}

fn go(arguments: &[&str]) -> Result<(), String> {
    let made = Command::new("go")
        .args(arguments)
        .env("CGO_ENABLED", "0")
        .current_dir(MODULE)
        .output()
        .map_err(|error| format!("no Go on this machine: {error}"))?;
    if made.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&made.stderr);
    Err(format!("go {}: {}", arguments.join(" "), said.trim()))
}

impl Peers {
    /// The programs.
    ///
    /// # Errors
    /// What this machine lacks.
    pub(crate) fn find() -> Result<Self, String> {
        match env::var_os(FOLDER) {
            Some(folder) => Ok(Self(Some(folder.into()))),
            None if Path::new(BUILT).exists() => Ok(Self(None)),
            None => Err(fs::read_to_string(LACK)
                .unwrap_or_default()
                .replace('\n', " ")),
        }
    }

    /// The program that plays a role there; none if the folder has none.
    pub(crate) fn program(&self, role: &str) -> Option<Program> {
        match &self.0 {
            None => Some(Program {
                path: BUILT.into(),
                args: vec![role.to_owned()],
            }),
            Some(folder) => {
                let path = folder.join(role);
                path.exists().then(|| Program {
                    path,
                    args: Vec::new(),
                })
            }
        }
    }

    /// A process in that role.
    ///
    /// # Panics
    /// There is no such program.
    pub(crate) fn run(&self, role: &str) -> Run {
        self.program(role)
            .unwrap_or_else(|| panic!("no {role}"))
            .run()
    }
}
