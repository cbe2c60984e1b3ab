//! `nsm demo`: a mesh of two nodes on this machine, and its story.

mod counters;
mod picture;
mod report;
mod story;
mod teller;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use nsm_lab::{Config, Interrupt, Lab};

use report::{OUTAGE_MS_PROMISED, Report};

/// Settings of `nsm demo`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Keep the logs of all roles in this folder, which must not be there yet
    #[arg(long, value_name = "FOLDER")]
    logs: Option<PathBuf>,
    /// What they log: TRACE, DEBUG, INFO, WARN or ERROR
    #[arg(long, default_value = "INFO")]
    log_level: String,
}

/// Tells the story; nothing of it is left when it returns, whatever happened.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    if let Some(folder) = settings.report.as_deref().and_then(Path::parent) {
        let there = folder.as_os_str().is_empty() || folder.is_dir();
        ensure!(there, "--report: there is no folder {}", folder.display());
    }
    let interrupt = Interrupt::install()?;
    let lab = Lab::new(&Config::default()).context("preparing the lab")?;
    let (folder, wanted) = (lab.logs(), settings.logs.clone());
    let mut report = Report::default();
    let kept = move || wanted.map_or(Ok(()), |wanted| keep(&folder, &wanted));
    lab.down_on(&interrupt);
    let told = story::tell(&lab, &interrupt, &settings.log_level, &mut report);
    let kept = kept();
    report.left_behind = lab.down();
    ended(&interrupt, told, &report)?;
    kept?;
    if let Some(path) = &settings.report {
        report.write(path)?;
    }
    judged(&report)
}

/// Says how it ended: told to, failed, or as it should.
fn ended(interrupt: &Interrupt, told: anyhow::Result<()>, report: &Report) -> anyhow::Result<()> {
    teller::chapter("The end");
    let left = &report.left_behind;
    teller::step(
        "processes, namespaces, links and files left behind",
        &left.len().to_string(),
    );
    left.iter().for_each(|one| teller::remark(one));
    if interrupt.raised() {
        bail!("interrupted");
    }
    told
}

fn judged(report: &Report) -> anyhow::Result<()> {
    let faults = report.faults();
    if !faults.is_empty() {
        bail!("not as it should be: {}", faults.join("; "));
    }
    if report.outage_ms > OUTAGE_MS_PROMISED {
        teller::remark(&format!(
            "the outage was longer than the {OUTAGE_MS_PROMISED:.0} ms that are promised"
        ));
    }
    Ok(())
}

fn keep(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(to).with_context(|| format!("--logs {}", to.display()))?;
    for entry in std::fs::read_dir(from).context("--logs")? {
        let entry = entry.context("--logs")?;
        std::fs::copy(entry.path(), to.join(entry.file_name())).context("--logs")?;
    }
    Ok(())
}
