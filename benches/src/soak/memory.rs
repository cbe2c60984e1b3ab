//! Memory of processes over time.

use std::collections::BTreeMap;

use serde::Serialize;

use super::census::processes;
use super::city::City;
use crate::usage::Usage;

/// A process that lived shorter says nothing about a slope: it is still filling its pools.
const LIVED_MS: f64 = 180_000.0;
/// What is left out at a process's beginning, for the same reason.
const WARM_MS: f64 = 60_000.0;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    series: BTreeMap<(String, u32), Vec<(f64, u64)>>,
}

/// How a process's resident memory grew.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Slope {
    pub process: String,
    pub minutes: f64,
    pub kb_a_minute: f64,
}

impl Memory {
    /// Looks at every process.
    pub(crate) fn look(&mut self, city: &City) {
        let now = city.crowd.now_ms();
        for (name, pid) in processes(city) {
            // It may just have ended.
            if let Ok(usage) = Usage::of(pid) {
                let series = self.series.entry((name, pid)).or_default();
                series.push((now, usage.resident));
            }
        }
    }

    /// The slopes of all that lived long enough, steepest first.
    pub(crate) fn slopes(&self) -> Vec<Slope> {
        let mut slopes: Vec<Slope> = self
            .series
            .iter()
            .filter_map(|((name, _), points)| {
                let (kb_a_minute, minutes) = slope(points)?;
                let process = name.clone();
                Some(Slope {
                    process,
                    minutes,
                    kb_a_minute,
                })
            })
            .collect();
        slopes.sort_by(|a, b| b.kb_a_minute.total_cmp(&a.kb_a_minute));
        slopes
    }
}

/// Least squares over what comes after the warm part: kB a minute, and the minutes.
#[allow(clippy::cast_precision_loss, reason = "kilobytes of one process")]
fn slope(points: &[(f64, u64)]) -> Option<(f64, f64)> {
    let (first, last) = (points.first()?.0, points.last()?.0);
    if last - first < LIVED_MS {
        return None;
    }
    let warm: Vec<(f64, f64)> = points
        .iter()
        .filter(|(at, _)| at - first >= WARM_MS)
        .map(|(at, kb)| (at / 60_000.0, *kb as f64))
        .collect();
    let count = warm.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| warm.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|one| one.0), mean(|one| one.1));
    let covariance: f64 = warm.iter().map(|one| (one.0 - x) * (one.1 - y)).sum();
    let variance: f64 = warm.iter().map(|one| (one.0 - x).powi(2)).sum();
    (variance > 0.0).then(|| (covariance / variance, (last - first) / 60_000.0))
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn slopes_after_the_warm_part() {
        let line = |minutes: u32, start: u64, a_minute: u64| -> Vec<(f64, u64)> {
            (0..=minutes)
                .map(|at| (f64::from(at) * 60_000.0, start + u64::from(at) * a_minute))
                .collect()
        };
        let mut jump = line(6, 900, 0);
        jump[0].1 = 100;
        type Row = (Vec<(f64, u64)>, Option<f64>);
        let rows: [Row; 5] = [
            (Vec::new(), None),
            (line(2, 100, 5), None),
            (line(5, 100, 5), Some(5.0)),
            (line(9, 100, 0), Some(0.0)),
            (jump, Some(0.0)),
        ];
        for (points, expected) in rows {
            let found = slope(&points).map(|(kb, _)| kb);
            assert_eq!(found, expected, "{points:?}");
        }
    }
}
