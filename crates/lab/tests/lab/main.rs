//! The lab on the real kernel, as this user and, when this user is root, as an unprivileged one
//! too.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test program without the harness that would be allowed to"
)]

mod cells;
mod ending;
mod figures;
mod filter;

use std::process::{Command, ExitCode};

use nsm_lab::{Config, Lab};

/// A test: its name and what it does; `Err` is a missing feature and counts as a skip, a panic is a
/// failure.
pub(crate) type Row = (&'static str, fn() -> Result<(), String>);

/// Set for the run as an unprivileged user.
const UNPRIVILEGED: &str = "NSM_LAB_TEST_UNPRIVILEGED";
const NOBODY: &str = "65534";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(nsm_lab::init::SUBCOMMAND) => return nsm_lab::init::main(&args[1..]),
        Some(nsm_lab::serve::SUBCOMMAND) => return nsm_lab::serve::main(&args[1..]),
        Some(ending::HOLD) => return ending::hold(),
        Some("--exec") => return ending::exec(&args[1..]),
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    let user = if std::env::var_os(UNPRIVILEGED).is_some() {
        "unprivileged"
    } else {
        "this user"
    };
    if let Err(error) = nsm_lab::enter() {
        assert!(error.is_missing_feature(), "{error}");
        println!("skipped: lab ({user}): {error}");
        println!("skips: 1");
        return ExitCode::SUCCESS;
    }
    let mut failed = false;
    let mut skips = 0;
    for (name, test) in [cells::TESTS, figures::TESTS, filter::TESTS, ending::TESTS].concat() {
        if args.iter().any(|arg| !arg.starts_with('-'))
            && !args.iter().any(|arg| name.contains(arg.as_str()))
        {
            continue;
        }
        let start = std::time::Instant::now();
        let result = std::panic::catch_unwind(test);
        let took = start.elapsed().as_millis();
        match result {
            Ok(Ok(())) => println!("test {name} ({user}, {took} ms) ... ok"),
            Ok(Err(reason)) => {
                skips += 1;
                println!("skipped: {name}: {reason}");
            }
            Err(_) => {
                failed = true;
                println!("test {name} ({user}, {took} ms) ... FAILED");
            }
        }
    }
    println!("skips: {skips}");
    // Root inside a user namespace of the lab's own is an ordinary user already.
    if user == "this user" && is_root() {
        failed |= !as_nobody(&args);
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn is_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Runs this test program as an unprivileged user; true if it passed.
fn as_nobody(args: &[String]) -> bool {
    let exe = std::env::current_exe().unwrap();
    let run = Command::new("setpriv")
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .arg(&exe)
        .args(args)
        .env(UNPRIVILEGED, "1")
        .current_dir("/")
        .status();
    match run {
        Ok(status) => status.success(),
        Err(error) => {
            println!("skipped: lab (unprivileged): cannot run setpriv: {error}");
            true
        }
    }
}

/// A fresh lab.
pub(crate) fn lab() -> Lab {
    Lab::new(&Config::default()).unwrap()
}
