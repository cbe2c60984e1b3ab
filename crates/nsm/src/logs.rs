//! Logs: text for people, JSON for machines, on standard error. Their level can be raised while the
//! process runs, as the Go implementation's can.

use std::sync::OnceLock;

use clap::ValueEnum;
use tracing_subscriber::{
    Layer as _, Registry, filter::Targets, fmt, layer::SubscriberExt as _, registry, reload,
    util::SubscriberInitExt as _,
};

/// What lets the level of the process's log be changed, and what it was begun with.
static BEGUN: OnceLock<(reload::Handle<Targets, Registry>, Targets)> = OnceLock::new();
/// What these libraries say is of no use below a warning.
const QUIET: &str = "h2=warn,hyper=warn,tonic=warn,tower=warn,rustls=warn";

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// Begins to log at this level (`TRACE` to `ERROR`, or a filter such as `nsm_rpc=debug,info`).
pub(crate) fn start(level: &str, format: Format) -> anyhow::Result<()> {
    let level = level
        .to_ascii_lowercase()
        .replace("warning", "warn")
        .replace("fatal", "error");
    let filter: Targets = format!("{level},{QUIET}").parse().map_err(|error| {
        anyhow::anyhow!("log level {level:?}: {error}; write TRACE, DEBUG, INFO, WARN or ERROR")
    })?;
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let (changeable, handle) = reload::Layer::new(filter.clone());
    let started = match format {
        Format::Text => registry().with(layer.with_filter(changeable)).try_init(),
        Format::Json => registry()
            .with(layer.json().with_filter(changeable))
            .try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("starting the log: {error}"))?;
    // A process begins its log once, or the line above has failed.
    let _begun = BEGUN.set((handle, filter));
    Ok(())
}

/// From now on everything is told, or again what the log was begun with.
pub(crate) fn tell_all(all: bool) {
    let Some((handle, configured)) = BEGUN.get() else {
        return;
    };
    let everything = || format!("trace,{QUIET}").parse().ok();
    let filter = if all { everything() } else { None };
    match handle.reload(filter.unwrap_or_else(|| configured.clone())) {
        Ok(()) => {
            tracing::trace!("everything is told");
            tracing::info!(all, "the log's level is another one");
        }
        Err(error) => tracing::warn!(%error, "the log's level stays"),
    }
}
