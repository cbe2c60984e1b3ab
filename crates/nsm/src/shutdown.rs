//! Told to end: SIGTERM or SIGINT.

use tokio::signal::unix::{SignalKind, signal};

/// Ends when the process is told to.
pub(crate) async fn requested() -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending");
    Ok(())
}
