//! Measurements from inside a cell's network namespace.
//!
//! Each runs on a thread that enters the namespace; the namespace lives as long as the measurement,
//! so measure *from* what stays and *to* what may be killed.

mod crowd;
mod flow;
mod ping;
mod tcp;

pub use crowd::{Counted, Crowd, Outage};
pub use flow::{FlowReport, RATE, UdpFlow, receive_drops};
pub use ping::{PingReport, ping};
pub use tcp::{TcpReport, port_open, tcp_throughput};

/// Receive buffer asked for; the kernel caps it at net.core.rmem_max. A sleeping receiver loses
/// nothing of 1000 packets a second for seconds.
pub(crate) const RECEIVE_BUFFER: usize = 4 << 20;

/// The value below which `percent` of the sorted values lie (nearest rank); `None` without values.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_by_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        let rows: &[(&[f64], usize, Option<f64>)] = &[
            (&[], 50, None),
            (&[7.0], 50, Some(7.0)),
            (&[7.0], 99, Some(7.0)),
            (&[1.0, 2.0, 3.0], 50, Some(2.0)),
            (&hundred, 50, Some(50.0)),
            (&hundred, 99, Some(99.0)),
        ];
        for (values, percent, expected) in rows {
            assert_eq!(
                percentile(values, *percent),
                *expected,
                "{percent} of {values:?}"
            );
        }
    }
}
