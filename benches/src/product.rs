//! The product under measure: the `nsm` program of this profile, built beside us.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

/// Subcommands that are the product's: the lab starts roles as its own program, which hands over.
pub(crate) const ROLES: &[&str] = &[
    "ca",
    "registry",
    "manager",
    "forwarder",
    "endpoint",
    "client",
    "apply",
    "drain",
];

/// Where the product is; the lab's cells inherit it.
const PATH: &str = "NSM_BENCH_PRODUCT";

/// Builds the product where cargo started us, and finds it beside our own program.
pub(crate) fn build() -> anyhow::Result<()> {
    let own = std::env::current_exe().context("finding the own program")?;
    let product = own.with_file_name("nsm");
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut command = Command::new(cargo);
        command.args(["build", "--package", "nsm"]);
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        let built = command.status().context("building the product")?;
        if !built.success() {
            bail!("building the product: {built}");
        }
    }
    if !product.exists() {
        bail!(
            "{} does not exist: start the benches with `cargo run --release -p nsm-bench`",
            product.display()
        );
    }
    Ok(())
}

/// Where the product is.
fn path() -> anyhow::Result<PathBuf> {
    match std::env::var_os(PATH) {
        Some(path) => Ok(path.into()),
        None => Ok(std::env::current_exe()?.with_file_name("nsm")),
    }
}

/// Becomes the product; returns only with the reason why it cannot.
pub(crate) fn become_it(args: &[String]) -> anyhow::Error {
    let path = match path() {
        Ok(path) => path,
        Err(error) => return error,
    };
    let error = Command::new(&path).args(args).exec();
    anyhow::Error::new(error).context(format!("running {}", path.display()))
}
