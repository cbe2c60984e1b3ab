//! `nsm lab`: the demo's mesh, standing in the background for whoever wants to look around in it.

pub(crate) mod stage;

use std::{path::PathBuf, process::ExitCode, sync::mpsc, time::Duration};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use nsm_lab::{
    Config, Interrupt, Lab,
    standing::{State, detach, log_path},
};

use crate::tools::output;
use stage::{SERVICE, Stage};

/// How long the mesh may take to stand: a debug build on a busy machine needs a few seconds.
const UP_PATIENCE: Duration = Duration::from_secs(60);
/// Nodes of one lab: each costs a handful of processes.
const NODES_MAX: i64 = 16;

/// What to do with the lab.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Start a mesh on this machine, and leave it standing
    Up(Up),
    /// Run a command in a pod of it, or on one of its nodes
    Exec(Exec),
    /// Take it down, and everything with it
    Down(Named),
    /// Hold it: what `up` starts in the background
    #[command(hide = true)]
    Hold(Up),
}

/// Which lab.
#[derive(Debug, Clone, Args)]
pub(crate) struct Named {
    /// Its name, where there are several
    #[arg(long, default_value = "demo")]
    name: String,
}

/// Settings of `nsm lab up`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    lab: Named,
    /// How many nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=NODES_MAX))]
    nodes: u16,
    /// What its roles log: TRACE, DEBUG, INFO, WARN or ERROR
    #[arg(long, default_value = "INFO")]
    log_level: String,
}

/// Settings of `nsm lab exec`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    lab: Named,
    /// The pod or node, as `nsm lab up` lists them
    pod: String,
    /// The command with its arguments; `nsm` is this program
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs `nsm lab`. Of a command in a pod the exit code is handed on.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    let done = match command {
        Command::Up(settings) => up(&settings),
        Command::Exec(settings) => return exec(&settings),
        Command::Down(lab) => down(&lab.name),
        Command::Hold(settings) => hold(&settings),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn down(name: &str) -> anyhow::Result<()> {
    State::load(name)?.down(name)?;
    output::write(&format!("lab {name} is down"))
}

fn up(settings: &Up) -> anyhow::Result<()> {
    let name = &settings.lab.name;
    if State::load(name).is_ok() {
        bail!(
            "a lab named {name:?} stands already: `nsm lab down` first, or choose another --name"
        );
    }
    let arguments = [
        "lab",
        "hold",
        "--name",
        name,
        "--nodes",
        &settings.nodes.to_string(),
        "--log-level",
        &settings.log_level,
    ]
    .map(str::to_owned);
    let state = detach(name, &arguments, &log_path(name)?, UP_PATIENCE)?;
    let cells: Vec<&str> = state.cells.keys().map(String::as_str).collect();
    output::write(&format!(
        "lab {name} stands: {}\nlogs: {}",
        cells.join(" "),
        state.root.join("logs").display()
    ))
}

fn exec(settings: &Exec) -> anyhow::Result<ExitCode> {
    let state = State::load(&settings.lab.name)?;
    let mut command = settings.command.clone();
    if let Some(program) = command.first_mut().filter(|program| *program == "nsm") {
        // By its path it may be hidden: a pod has a /tmp of its own.
        "/proc/self/exe".clone_into(program);
    }
    let status = state.exec(&settings.pod, &command)?;
    let Some(code) = status.code() else {
        bail!("{}: {status}", settings.command.join(" "));
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Stands until it is told to end.
fn hold(settings: &Up) -> anyhow::Result<()> {
    let name = &settings.lab.name;
    let interrupt = Interrupt::install()?;
    let (told, ended) = mpsc::channel();
    let lab = Lab::new(&Config::default()).context("preparing the lab")?;
    lab.down_on(&interrupt);
    interrupt.on_raise(move || {
        // Nobody listens where the lab did not come to stand: then it has ended anyway.
        let _ended = told.send(());
    });
    let stood = stand(&lab, settings);
    if stood.is_ok() {
        // An error says that the interrupt's thread is gone, which ends the lab too.
        let _told = ended.recv();
    }
    let left = lab.down();
    State::forget(name)?;
    stood?;
    if !left.is_empty() {
        bail!("left behind: {}", left.join("; "));
    }
    Ok(())
}

fn stand(lab: &Lab, settings: &Up) -> anyhow::Result<PathBuf> {
    let mut stage = Stage::up(lab, usize::from(settings.nodes), &settings.log_level)?;
    stage.hello()?;
    stage.services()?;
    stage.gateways()?;
    stage.firewall()?;
    stage.client(0, "client", &format!("{SERVICE}/nsm-1?app=client"))?;
    let cells = stage.cells();
    let mut state = State::of(lab, &cells)?;
    for (key, value) in stage.environment() {
        state.env.insert(key.to_owned(), value);
    }
    Ok(state.save(&settings.lab.name)?)
}
