//! `cargo xtask`: runs all tests and counts the skips, prints the README's commands, checks the
//! demo's report. Continuous integration uses the same commands as a person does.

#![forbid(unsafe_code)]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use nsm_tidy::{docs, report, skips::Tally, tree};

const USAGE: &str =
    "usage: cargo xtask test [-p CRATE]  every test (of a crate), and what was skipped
       cargo xtask readme NAME      the README's command NAME (demo, test)
       cargo xtask report FILE      whether the demo's report shows what it must
";

/// Names the file of expected skips; a skip that it does not list makes the run red.
const EXPECTED_SKIPS: &str = "NSM_EXPECTED_SKIPS";

/// Every test, of the program that ships: with policies in Rego, and etcd.
const EVERYTHING: &[&str] = &["--workspace", "--features", "nsm-policy/opa,nsm/etcd"];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["test", which @ ..] => test(which),
        ["readme", name] => readme(name),
        ["report", path] => check_report(path),
        _ => Err(anyhow::anyhow!("{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _closed = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every test; the skips and the counts are the last lines.
fn test(which: &[&str]) -> Result<()> {
    let which = if which.is_empty() { EVERYTHING } else { which };
    let mut child = cargo()
        .args(["test", "--no-fail-fast"])
        .args(which)
        .args(["--", "--show-output"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo test")?;
    let output = child.stdout.take().context("cargo test: no output")?;
    let mut out = std::io::stdout();
    let mut tally = Tally::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cargo test: reading its output")?;
        let line = String::from_utf8_lossy(&line);
        if tally.line(&line) {
            writeln!(out, "{line}")?;
        }
    }
    let status = child.wait().context("cargo test")?;
    let mut faults = tally.faults();
    if !status.success() {
        faults.push(format!("cargo test: {status}"));
    }
    if let Some(path) = env::var_os(EXPECTED_SKIPS) {
        let path = tree::root().join(path);
        let expected =
            std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        faults.extend(
            tally
                .unexpected(&expected)
                .into_iter()
                .map(|skip| format!("unexpected skip: {skip}")),
        );
    }
    write!(out, "\n{}", tally.summary())?;
    if !faults.is_empty() {
        bail!("{}", faults.join("\nerror: "));
    }
    Ok(())
}

/// Cargo as a person would call it: without what the outer cargo says about this package, which
/// would make build scripts run again.
fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let ours = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_PRIMARY_",
            "CARGO_BIN_",
        ];
        if ours
            .iter()
            .any(|start| name.to_string_lossy().starts_with(start))
        {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(tree::root());
    cargo
}

fn readme(name: &str) -> Result<()> {
    let path = tree::root().join("README.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let found = docs::commands(&text)
        .into_iter()
        .find(|(marked, _)| marked == name);
    let (_, command) = found.with_context(|| format!("README.md marks no command {name:?}"))?;
    writeln!(std::io::stdout(), "{command}")?;
    Ok(())
}

fn check_report(path: &str) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let value = serde_json::from_str(&text).with_context(|| path.to_owned())?;
    let (faults, warnings) = report::check(&value);
    for warning in warnings {
        writeln!(std::io::stdout(), "warning: {warning}")?;
    }
    if !faults.is_empty() {
        bail!(
            "the demo's report {path}:\nerror: {}",
            faults.join("\nerror: ")
        );
    }
    Ok(())
}
