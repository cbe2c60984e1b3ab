//! The leader of three members of etcd is killed under 200 registrations a second, each with its
//! bound: `cargo bench -p nsm-registry --features etcd --bench etcd`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and may stop"
)]

use std::time::Duration;

#[path = "../tests/etcd/cluster.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod cluster;
#[path = "../tests/etcd/load.rs"]
mod load;

use cluster::Cluster;

/// How often a leader is killed.
const RUNS: usize = 5;
/// How soon writes must be back.
const BACK: Duration = Duration::from_secs(2);
/// Reads are unaffected if 99 of 100 are no slower than this many times those before, or are
/// this fast in any case.
const TIMES: u32 = 2;
const FAST: Duration = Duration::from_micros(100);

fn main() {
    if let Some(missing) = cluster::missing() {
        println!("not measured: {missing}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for run in 1..=RUNS {
        let figures = runtime.block_on(async {
            let mut cluster = Cluster::start().await;
            load::leader_is_killed(&mut cluster, "load").await
        });
        let [before, after] = figures.reads_p99;
        let verdict = |holds: bool| if holds { "holds" } else { "MISSED" };
        println!(
            "run {run}: {} registrations answered, {} failed after one retry (bound 0: {}), {} lost (bound 0: {})",
            figures.acknowledged,
            figures.failed,
            verdict(figures.failed == 0),
            figures.lost,
            verdict(figures.lost == 0),
        );
        println!(
            "run {run}: writes back after {:?} (bound {BACK:?}: {}), the slowest took {:?}; reads p99 {before:?} before, {after:?} after (bound {TIMES} x or {FAST:?}: {})",
            figures.back,
            verdict(figures.back <= BACK),
            figures.slowest,
            verdict(after <= FAST.max(before * TIMES)),
        );
    }
}
