//! What a process is told by signals: SIGTERM or SIGINT to end, SIGUSR1 to log everything, SIGUSR2
//! to log again what it was begun with.

use tokio::signal::unix::{SignalKind, signal};

use crate::logs;

/// Ends when the process is told to.
pub(crate) async fn requested() -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let (mut more, mut less) = (
        signal(SignalKind::user_defined1())?,
        signal(SignalKind::user_defined2())?,
    );
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = more.recv() => logs::tell_all(true),
            _ = less.recv() => logs::tell_all(false),
        }
    }
    tracing::info!("ending");
    Ok(())
}
