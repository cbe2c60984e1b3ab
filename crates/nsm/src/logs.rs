//! Logs: text for people, JSON for machines, on standard error.

use clap::ValueEnum;
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, registry,
    util::SubscriberInitExt as _,
};

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
    let filter: Targets = format!("{level},h2=warn,hyper=warn,tonic=warn,tower=warn,rustls=warn")
        .parse()
        .map_err(|error| {
            anyhow::anyhow!("log level {level:?}: {error}; write TRACE, DEBUG, INFO, WARN or ERROR")
        })?;
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let started = match format {
        Format::Text => registry().with(layer.with_filter(filter)).try_init(),
        Format::Json => registry().with(layer.json().with_filter(filter)).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("starting the log: {error}"))
}
