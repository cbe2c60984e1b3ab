//! Files of a mesh: entries that are written whole, logs that are waited for.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::cell::Process;
use crate::error::LabError;

/// How long a role may take to start: the slowest part is a debug build's first handshakes.
pub(super) const START: Duration = Duration::from_secs(20);
/// Between two looks at a log.
const LOOK: Duration = Duration::from_millis(5);

/// How much a log has already, in bytes: the words of an earlier process are none of the next
/// one's.
pub(super) fn said(log: &Path) -> usize {
    std::fs::read(log).map_or(0, |text| text.len())
}

/// Waits until a program says in its log, after the first `said` bytes, that it is ready.
pub(super) fn wait(
    process: &Process,
    log: &Path,
    said: usize,
    ready: &str,
) -> Result<(), LabError> {
    let began = Instant::now();
    loop {
        let text = std::fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(text.get(said..).unwrap_or_default());
        if text.to_lowercase().contains(&ready.to_lowercase()) {
            return Ok(());
        }
        if process.status().is_some() || began.elapsed() > START {
            let end: Vec<&str> = text.lines().rev().take(8).collect();
            let end: Vec<&str> = end.into_iter().rev().collect();
            let what = format!("{} waiting for {ready:?}", log.display());
            return Err(LabError::NotReady {
                what,
                log: end.join("\n"),
            });
        }
        std::thread::sleep(LOOK);
    }
}

/// Whole or not at all: the agent may read at any time.
pub(super) fn write(path: &Path, text: &str) -> Result<(), LabError> {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).map_err(|e| LabError::file("write", &draft, e))?;
    std::fs::rename(&draft, path).map_err(|e| LabError::file("write", path, e))
}
