//! The demo's report: what it must say for the demo to count as shown.

use serde_json::Value;

/// The outage that must never be passed, in milliseconds.
const OUTAGE_MS_MAX: f64 = 1_000.0;

/// The outage that we promise, in milliseconds: beyond it the check warns.
const OUTAGE_MS_PROMISED: f64 = 300.0;

/// The path that the service's document describes.
const PATH: &[&str] = &["client", "firewall", "gateway"];

/// What the report says against the demo: (faults, warnings).
#[must_use]
pub fn check(report: &Value) -> (Vec<String>, Vec<String>) {
    let mut faults = Vec::new();
    let mut warnings = Vec::new();
    if report["connects"]
        .as_array()
        .is_none_or(|connects| connects.is_empty() || !connects.iter().all(is_connect))
    {
        faults.push("connects: not a list of {client, service, nodes, ms}".to_owned());
    }
    if !is_path(&report["path"]) {
        faults.push(format!(
            "path: {} is not {}",
            report["path"],
            PATH.join(" - ")
        ));
    }
    for key in ["rtt_us", "tcp_gbps"] {
        if report[key].as_f64().is_none_or(|figure| figure <= 0.0) {
            faults.push(format!("{key}: {} is not a measured figure", report[key]));
        }
    }
    if report["lost_before_fault"].as_u64() != Some(0) {
        faults.push(format!(
            "lost_before_fault: {}, not 0",
            report["lost_before_fault"]
        ));
    }
    match report["outage_ms"].as_f64() {
        Some(ms) if (0.0..=OUTAGE_MS_PROMISED).contains(&ms) => {}
        Some(ms) if (0.0..=OUTAGE_MS_MAX).contains(&ms) => {
            warnings.push(format!("outage_ms: {ms}, promised {OUTAGE_MS_PROMISED}"));
        }
        _ => faults.push(format!(
            "outage_ms: {}, at most {OUTAGE_MS_MAX}",
            report["outage_ms"]
        )),
    }
    for (key, wanted) in [("allowed_port_open", true), ("denied_port_open", false)] {
        if report[key].as_bool() != Some(wanted) {
            faults.push(format!("{key}: {}, not {wanted}", report[key]));
        }
    }
    if report["left_behind"]
        .as_array()
        .is_none_or(|left| !left.is_empty())
    {
        faults.push(format!("left_behind: {}, not []", report["left_behind"]));
    }
    (faults, warnings)
}

fn is_connect(connect: &Value) -> bool {
    connect["client"].is_string()
        && connect["service"].is_string()
        && !connect["nodes"].is_null()
        && connect["ms"].as_f64().is_some_and(|ms| ms > 0.0)
}

/// The stations of the path in their order, each once; names may carry a number or a node.
fn is_path(path: &Value) -> bool {
    let names: Vec<&str> = path
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    names.len() == PATH.len()
        && names
            .iter()
            .zip(PATH)
            .all(|(name, station)| name.contains(station))
}
