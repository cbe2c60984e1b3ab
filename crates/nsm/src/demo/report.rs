//! The demo's figures, as a file for machines.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;

/// The outage that is promised.
pub(crate) const OUTAGE_MS_PROMISED: f64 = 300.0;
/// The outage that must never be passed.
const OUTAGE_MS_MAX: f64 = 1_000.0;

/// What was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) connects: Vec<Connect>,
    /// The client first, the endpoint last.
    pub(crate) path: Vec<String>,
    /// Median.
    pub(crate) rtt_us: f64,
    pub(crate) tcp_gbps: f64,
    /// Datagrams.
    pub(crate) lost_before_fault: u64,
    /// The longest time without an answer.
    pub(crate) outage_ms: f64,
    pub(crate) allowed_port_open: bool,
    pub(crate) denied_port_open: bool,
    /// Processes, links, mounts and files, a line each.
    pub(crate) left_behind: Vec<String>,
}

/// A connect.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Connect {
    pub(crate) client: String,
    pub(crate) service: String,
    /// How many nodes the connection touches.
    pub(crate) nodes: usize,
    pub(crate) ms: f64,
}

impl Report {
    /// Whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("--report {}", path.display()))
    }

    /// What must not be, a line each.
    pub(crate) fn faults(&self) -> Vec<String> {
        let rows = [
            (
                self.lost_before_fault > 0,
                format!("{} datagrams lost before the fault", self.lost_before_fault),
            ),
            (
                self.outage_ms > OUTAGE_MS_MAX,
                format!("{:.0} ms without an answer", self.outage_ms),
            ),
            (
                !self.allowed_port_open,
                "the port that the firewall allows is closed".to_owned(),
            ),
            (
                self.denied_port_open,
                "the port that the firewall denies is open".to_owned(),
            ),
        ];
        let left = self
            .left_behind
            .iter()
            .map(|one| format!("left behind: {one}"));
        rows.into_iter()
            .filter_map(|(wrong, text)| wrong.then_some(text))
            .chain(left)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_is_named() {
        let good = Report {
            allowed_port_open: true,
            outage_ms: OUTAGE_MS_PROMISED,
            ..Report::default()
        };
        type Change = fn(&mut Report);
        let rows: &[(Change, &[&str])] = &[
            (|_| {}, &[]),
            (
                |one| one.lost_before_fault = 3,
                &["3 datagrams lost before the fault"],
            ),
            (|one| one.outage_ms = 1000.6, &["1001 ms without an answer"]),
            (
                |one| one.allowed_port_open = false,
                &["the port that the firewall allows is closed"],
            ),
            (
                |one| {
                    one.denied_port_open = true;
                    one.left_behind = vec!["link br0".to_owned()];
                },
                &[
                    "the port that the firewall denies is open",
                    "left behind: link br0",
                ],
            ),
        ];
        for (change, expected) in rows {
            let mut report = good.clone();
            change(&mut report);
            assert_eq!(report.faults(), *expected);
        }
    }
}
