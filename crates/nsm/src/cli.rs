//! The command line.

use std::{ffi::OsString, io::Write as _, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{config, roles, tools};

/// Network Service Mesh: point-to-point layer 2/3 connections to named network services.
#[derive(Debug, Parser)]
#[command(name = "nsm", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// A role to run, or a tool.
#[derive(Debug, Subcommand)]
enum Command {
    /// Show a whole mesh on this machine: two nodes, a chain, a fault
    Demo(crate::demo::Settings),
    /// Keep such a mesh standing, and look around in it
    #[command(subcommand)]
    Lab(crate::lab::Command),
    /// Run the built-in certificate authority: the root, a node's agent, or both in one
    Ca(roles::ca::Settings),
    /// Run the registry of a domain
    Registry(roles::registry::Settings),
    /// Run a node's manager
    Manager(roles::manager::Settings),
    /// Run a node's forwarder (needs CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_NET_BROADCAST)
    Forwarder(roles::forwarder::Settings),
    /// Offer a network service
    Endpoint(roles::endpoint::Settings),
    /// Connect to network services, and keep the connections
    Client(roles::client::Settings),
    /// Connect to network services once, and end
    Init(roles::client::Settings),
    /// Show what there is: services, endpoints, managers, forwarders, connections
    Get(tools::get::Settings),
    /// Show one connection hop by hop
    Trace(tools::trace::Settings),
    /// Make network services as files say
    Apply(tools::apply::Settings),
    /// Remove network services or endpoints
    Delete(tools::delete::Settings),
    /// Empty a node: its endpoints take nobody new, their clients go to others
    Drain(tools::drain::Settings),
    /// Ask a role whether it serves, for probes
    Health(tools::health::Settings),
}

/// Parses, runs, and turns what went wrong into one line.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    if needs_a_lab(arguments)
        && let Err(error) = nsm_lab::enter()
    {
        let _nobody_reads = writeln!(std::io::stderr(), "nsm: {error}");
        return ExitCode::FAILURE;
    }
    let parsed = config::parse::<Cli>(Cli::command(), arguments, |name| std::env::var_os(name));
    let done = match parsed {
        Ok(Ok(cli)) => run(cli.command),
        Ok(Err(error)) => {
            // Help and version are no failures; clap knows which is which.
            let _nobody_reads = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
        Err(error) => Err(error),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            let _nobody_reads = writeln!(std::io::stderr(), "nsm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the command makes a lab, which a process enters before it has a thread.
fn needs_a_lab(arguments: &[OsString]) -> bool {
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    match words.next() {
        Some("demo") => true,
        Some("lab") => words.next() == Some("hold"),
        Some(_) | None => false,
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let done = match command {
        Command::Demo(settings) => crate::demo::run(&settings),
        Command::Lab(command) => return crate::lab::run(command),
        Command::Ca(settings) => settings
            .beginning()
            .begin()
            .and_then(|()| serve(roles::ca::run(settings))),
        Command::Registry(settings) => settings
            .beginning()
            .begin()
            .and_then(|()| serve(roles::registry::run(settings))),
        Command::Manager(settings) => settings
            .beginning()
            .begin()
            .and_then(|()| serve(roles::manager::run(settings))),
        Command::Forwarder(settings) => settings
            .beginning()
            .begin()
            .and_then(|()| serve(roles::forwarder::run(settings))),
        Command::Endpoint(settings) => settings
            .beginning()
            .begin()
            .and_then(|()| serve(roles::endpoint::run(settings))),
        Command::Client(settings) => settings
            .beginning()
            .begin()
            .and_then(|()| serve(roles::client::run(settings))),
        Command::Init(settings) => settings
            .beginning()
            .begin()
            .and_then(|()| serve(roles::client::run_once(settings))),
        Command::Get(settings) => serve(tools::get::run(settings)),
        Command::Trace(settings) => serve(tools::trace::run(settings)),
        Command::Apply(settings) => serve(tools::apply::run(settings)),
        Command::Delete(settings) => serve(tools::delete::run(settings)),
        Command::Drain(settings) => serve(tools::drain::run(settings)),
        Command::Health(settings) => serve(tools::health::run(settings)),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Runs a role on a runtime of its own.
pub(crate) fn serve(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    runtime.block_on(role)
}

/// Threads of a role's runtime: its work is short and waits for others; more threads cost memory
/// on every node and gain nothing measurable.
const WORKERS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every variable that a role reads is in the page that says what there is.
    #[test]
    fn settings_are_documented() {
        let page = include_str!("../../../docs/configuration.md");
        for role in [
            "ca",
            "registry",
            "manager",
            "forwarder",
            "endpoint",
            "client",
        ] {
            let command = Cli::command();
            let found = command.find_subcommand(role).unwrap();
            for argument in found.get_arguments() {
                let Some(variable) = argument.get_env().and_then(|name| name.to_str()) else {
                    continue;
                };
                assert!(
                    page.contains(&format!("| `{variable}`")),
                    "docs/configuration.md has no row for {variable} of nsm {role}"
                );
            }
        }
    }
}
