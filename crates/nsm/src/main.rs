//! Network Service Mesh: every role and tool in one binary.

#![forbid(unsafe_code)]

mod begin;
mod cli;
mod config;
mod demo;
mod journal;
mod lab;
mod liveness;
mod logs;
mod policies;
mod roles;
mod secret;
mod shutdown;
mod sockets;
mod station;
mod tools;

use std::{ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // What the lab starts of itself comes before anything that makes a thread.
    let words: Vec<String> = arguments
        .iter()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match words.split_first() {
        Some((first, rest)) if first == nsm_lab::init::SUBCOMMAND => nsm_lab::init::main(rest),
        Some((first, rest)) if first == nsm_lab::serve::SUBCOMMAND => nsm_lab::serve::main(rest),
        Some(_) | None => cli::main(&arguments),
    }
}
