//! Memory of processes over time.

use std::collections::BTreeMap;

use serde::Serialize;

use super::census::processes;
use super::city::City;
use crate::usage::Usage;

/// Processes that were looked at for less say nothing about a slope, minutes.
const LOOKED_AT: f64 = 2.0;
/// What is left out at a process's beginning, minutes: it is still filling its pools, and the most
/// that its heap ever held at a time has not come yet. With 30 clients replaced a minute and what
/// is in use constant, memory came to rest after two to five minutes.
const WARM: f64 = 5.0;

/// See the module.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Memory {
    /// By role, then one list for each process that had it: minutes since it was seen first, kB.
    series: BTreeMap<String, Vec<Series>>,
}

/// One process.
#[derive(Debug, Default, Serialize)]
struct Series {
    pid: u32,
    began_ms: f64,
    points: Vec<(f64, u64)>,
}

/// How a process's own memory grew.
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
            let Ok(usage) = Usage::of(pid) else { continue };
            let all = self.series.entry(name).or_default();
            if all.last().is_none_or(|last| last.pid != pid) {
                all.push(Series {
                    pid,
                    began_ms: now,
                    points: Vec::new(),
                });
            }
            if let Some(last) = all.last_mut() {
                let minutes = (now - last.began_ms) / 60_000.0;
                last.points.push((minutes, usage.anonymous));
            }
        }
    }

    /// The slopes of all that were looked at for long enough, steepest first.
    pub(crate) fn slopes(&self) -> Vec<Slope> {
        let mut slopes: Vec<Slope> = self
            .series
            .iter()
            .flat_map(|(name, all)| all.iter().map(move |one| (name, one)))
            .filter_map(|(name, one)| {
                let (kb_a_minute, minutes) = slope(&one.points)?;
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
    let warm = points.iter().filter(|(at, _)| *at >= WARM);
    let warm: Vec<(f64, f64)> = warm.map(|(at, kb)| (*at, *kb as f64)).collect();
    let minutes = warm.last()?.0 - warm.first()?.0;
    let mean = |of: fn(&(f64, f64)) -> f64| warm.iter().map(of).sum::<f64>() / warm.len() as f64;
    let (x, y) = (mean(|one| one.0), mean(|one| one.1));
    let covariance: f64 = warm.iter().map(|one| (one.0 - x) * (one.1 - y)).sum();
    let variance: f64 = warm.iter().map(|one| (one.0 - x).powi(2)).sum();
    (minutes >= LOOKED_AT && variance > 0.0).then(|| (covariance / variance, minutes))
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn slopes_after_the_warm_part() {
        let line = |minutes: u32, start: u64, a_minute: u64| -> Vec<(f64, u64)> {
            (0..=minutes)
                .map(|at| (f64::from(at), start + u64::from(at) * a_minute))
                .collect()
        };
        let mut jump = line(9, 900, 0);
        jump[0].1 = 100;
        type Row = (Vec<(f64, u64)>, Option<f64>);
        let rows: [Row; 5] = [
            (Vec::new(), None),
            (line(6, 100, 5), None),
            (line(8, 100, 5), Some(5.0)),
            (line(12, 100, 0), Some(0.0)),
            (jump, Some(0.0)),
        ];
        for (points, expected) in rows {
            let found = slope(&points).map(|(kb, _)| kb);
            assert_eq!(found, expected, "{points:?}");
        }
    }
}
