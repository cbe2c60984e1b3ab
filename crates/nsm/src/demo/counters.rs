//! What went through a pod, as its kernel counts.

use anyhow::Context as _;
use nsm_kernel::filter::{Filter, Subject};
use nsm_lab::Cell;

/// Packets that the filter of a firewall let through, and dropped.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Filtered {
    pub(crate) passed: u64,
    pub(crate) dropped: u64,
}

/// What the packet filter in a pod has decided; `denying` are the rules that deny, by index.
pub(crate) fn filtered(cell: &Cell, denying: &[usize]) -> anyhow::Result<Filtered> {
    let counters = cell
        .within(|| Filter::open().and_then(|mut filter| filter.counters()))?
        .with_context(|| format!("reading the packet filter of {}", cell.name()))?;
    let mut sum = Filtered::default();
    for counter in counters {
        let denied = match counter.subject {
            Subject::Rule(index) => denying.contains(&index),
            Subject::Replies => false,
            Subject::Default => true,
        };
        *(if denied {
            &mut sum.dropped
        } else {
            &mut sum.passed
        }) += counter.packets;
    }
    Ok(sum)
}

/// Packets that a pod's interfaces have received and sent, loopback left out.
pub(crate) fn packets(cell: &Cell) -> anyhow::Result<(u64, u64)> {
    let table = cell
        .within(|| std::fs::read_to_string("/proc/thread-self/net/dev"))?
        .with_context(|| format!("reading the interfaces of {}", cell.name()))?;
    Ok(sum(&table))
}

/// Columns of /proc/net/dev (proc_net_dev(5)): after the name 8 of receipt, then 8 of sending, the
/// packets second in each.
fn sum(table: &str) -> (u64, u64) {
    let rows = table
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() != "lo");
    rows.fold((0, 0), |(received, sent), (_, columns)| {
        let columns: Vec<u64> = columns
            .split_whitespace()
            .map(|column| column.parse().unwrap_or_default())
            .collect();
        let at = |index: usize| columns.get(index).copied().unwrap_or_default();
        (received + at(1), sent + at(9))
    })
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn loopback_does_not_count() {
        let table = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       9    0    0    0     0          0         0      100       9    0    0    0     0       0          0
 nsm-1:    2942      10    0    0    0     0          0         0     5000      12    0    0    0     0       0          0
 nsm-2:      42       1    0    0    0     0          0         0       84       2    0    0    0     0       0          0
";
        assert_eq!(sum(table), (11, 14));
    }
}
