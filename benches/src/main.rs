//! The benches: every figure that SPECIFICATION.md promises, beside its floor from the same run.
//!
//! `cargo run --release -p nsm-bench [-- connect burst cycles throughput flood policies]` builds
//! the product, starts a mesh of it in the lab, measures, and prints each figure with its bound and
//! a verdict. `policies` alone needs neither product nor lab.
//!
//! `reliability` and `soak` break things, and have arguments of their own.

#![forbid(unsafe_code)]

mod burst;
mod client;
mod connect;
mod cycles;
mod figure;
mod flood;
mod floor;
mod knock;
mod policies;
mod product;
mod reliability;
mod soak;
mod stage;
mod throughput;
mod town;
mod usage;

use std::process::ExitCode;

use figure::Figure;

/// A bench and what it measures.
type Bench = (&'static str, fn() -> anyhow::Result<Vec<Figure>>);

const BENCHES: &[Bench] = &[
    ("connect", connect::run),
    ("burst", burst::run),
    ("cycles", cycles::run),
    ("throughput", throughput::run),
    ("flood", flood::run),
    (policies::NAME, policies::run),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        // What the lab starts of itself comes before anything that makes a thread.
        Some((first, rest)) if first == nsm_lab::init::SUBCOMMAND => {
            return nsm_lab::init::main(rest);
        }
        Some((first, rest)) if first == nsm_lab::serve::SUBCOMMAND => {
            return nsm_lab::serve::main(rest);
        }
        Some((first, _)) if first == client::SUBCOMMAND => client::main(),
        Some((first, _)) if first == knock::SUBCOMMAND => knock::main(),
        Some((first, _)) if product::ROLES.contains(&first.as_str()) => {
            Err(product::become_it(&args))
        }
        Some((first, rest)) if first == reliability::NAME => reliability::run(rest),
        Some((first, rest)) if first == soak::NAME => soak::run(rest),
        Some(_) | None => benches(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            figure::say(&format!("nsm-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn benches(wanted: &[String]) -> anyhow::Result<()> {
    if let Some(unknown) = wanted
        .iter()
        .find(|one| !BENCHES.iter().any(|(name, _)| name == one))
    {
        anyhow::bail!(
            "no bench {unknown:?}; there are connect, burst, cycles, throughput, flood, policies"
        );
    }
    // What only computes needs no mesh.
    if wanted != [policies::NAME] {
        enter_lab()?;
    }
    let mut figures = Vec::new();
    for (name, bench) in BENCHES {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            figure::say(&format!("{name} (load {})", usage::load()));
            figures.extend(bench()?);
        }
    }
    figure::print(&figures)
}

/// The product is built first: inside the lab cargo would be somebody else.
fn enter_lab() -> anyhow::Result<()> {
    if !nsm_lab::entered() {
        product::build()?;
    }
    Ok(nsm_lab::enter()?)
}
