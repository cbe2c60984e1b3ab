//! What processes hold and have used, by /proc.

use std::fs;

use anyhow::Context as _;
use nsm_kernel::stats::LinkReader;
use nsm_lab::Cell;

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Usage {
    pub threads: usize,
    pub descriptors: usize,
    /// Resident memory, kB.
    pub resident: u64,
    /// What of it is the process's own and no page of a file: it grows with what is kept, and not
    /// with code that runs for the first time.
    pub anonymous: u64,
}

impl Usage {
    /// Of a process by the number that we know it by.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let count = |what: &str| -> anyhow::Result<usize> {
            let path = format!("/proc/{pid}/{what}");
            Ok(fs::read_dir(&path).with_context(|| path.clone())?.count())
        };
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| path.clone())?;
        let kilobytes = |what: &str| -> anyhow::Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(what));
            let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            number.with_context(|| format!("{path}: no {what}"))
        };
        Ok(Self {
            threads: count("task")?,
            descriptors: count("fd")?,
            resident: kilobytes("VmRSS:")?,
            anonymous: kilobytes("RssAnon:")?,
        })
    }
}

/// Processor time that a process has used, milliseconds.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // proc_pid_stat(5): utime and stime are fields 14 and 15; the name before them may hold blanks.
    let fields: Vec<&str> = text
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let ticks = |at: usize| -> anyhow::Result<f64> {
        let field = fields
            .get(at)
            .with_context(|| format!("{path}: too short"))?;
        Ok(field.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) * MILLISECONDS_A_TICK)
}

/// USER_HZ is 100 on every architecture that we run on.
const MILLISECONDS_A_TICK: f64 = 10.0;

/// Links in a cell's namespace.
pub(crate) fn links(cell: &Cell) -> anyhow::Result<usize> {
    let links = cell.within(|| LinkReader::open()?.links(None))??;
    Ok(links.len())
}

/// How busy the machine is: the load averages.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}
