//! Skips are counted and named; the demo's report is held against what it must show.

use nsm_tidy::{report, skips::Tally};
use serde_json::{Value, json};

const OUTPUT: &str = "
running 3 tests
test a ... ok
test vxlan ... ok
test c ... FAILED

successes:

---- vxlan stdout ----
noise of a test that passed
skipped: kernel::vxlan: the kernel has no VXLAN

successes:
    a
    vxlan

failures:

---- c stdout ----
assertion failed

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 1 test
test d ... skipped: kernel::d: the kernel has no VXLAN
ok

test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
test cells (this user) ... ok
skipped: lab (unprivileged): no user namespaces
";

fn tally(output: &str) -> (Tally, Vec<&str>) {
    let mut tally = Tally::default();
    let seen = output.lines().filter(|line| tally.line(line)).collect();
    (tally, seen)
}

#[test]
fn skips_are_counted_and_not_as_passed() {
    let (tally, seen) = tally(OUTPUT);
    assert_eq!(
        tally.summary(),
        "1 skipped, no user namespaces:\n    lab (unprivileged)\n2 skipped, the kernel has no VXLAN:\n    kernel::d\n    kernel::vxlan\n41 passed, 1 failed, 4 skipped\n"
    );
    assert!(
        seen.contains(&"assertion failed"),
        "a failure's output is shown: {seen:?}"
    );
    assert!(!seen.contains(&"noise of a test that passed"), "{seen:?}");
    assert_eq!(tally.faults(), ["1 tests failed"]);
}

#[test]
fn an_unexpected_skip_is_named() {
    let (tally, _) = tally(OUTPUT);
    let expected = "# this kernel\nkernel::vxlan: the kernel has no VXLAN\nkernel::old: gone\n";
    assert_eq!(
        tally.unexpected(expected),
        [
            "kernel::d: the kernel has no VXLAN",
            "lab (unprivileged): no user namespaces"
        ]
    );
    assert_eq!(tally.unexpected("").len(), 3);
}

#[test]
fn a_run_that_proves_nothing_is_red() {
    for (output, fault) in [
        ("", "no test ran"),
        (
            "test result: ok. 0 passed; 0 failed; 0 ignored;",
            "no test ran",
        ),
        (
            "skipped: without a reason\ntest result: ok. 1 passed; 0 failed; 0 ignored;",
            "a skip without",
        ),
    ] {
        let faults = tally(output).0.faults();
        assert!(
            faults.len() == 1 && faults[0].starts_with(fault),
            "{output}: {faults:?}"
        );
    }
}

fn good() -> Value {
    json!({
        "connects": [{"client": "client", "service": "vpn", "nodes": 2, "ms": 4.2}],
        "path": ["client", "firewall", "gateway-1"],
        "rtt_us": 80.5, "tcp_gbps": 9.1, "lost_before_fault": 0, "outage_ms": 120,
        "allowed_port_open": true, "denied_port_open": false, "left_behind": [],
    })
}

#[test]
fn the_demo_report_is_held_to_its_promises() {
    assert_eq!(report::check(&good()), (vec![], vec![]));
    for (key, value, faults, warnings) in [
        ("connects", json!([]), 1, 0),
        ("connects", json!([{"client": "client"}]), 1, 0),
        ("path", json!(["client", "gateway"]), 1, 0),
        ("path", json!(["client", "gateway", "firewall"]), 1, 0),
        ("rtt_us", json!(0), 1, 0),
        ("tcp_gbps", Value::Null, 1, 0),
        ("lost_before_fault", json!(1), 1, 0),
        ("outage_ms", json!(400), 0, 1),
        ("outage_ms", json!(1001), 1, 0),
        ("outage_ms", json!(-1), 1, 0),
        ("allowed_port_open", json!(false), 1, 0),
        ("denied_port_open", json!(true), 1, 0),
        ("left_behind", json!(["netns x"]), 1, 0),
        ("left_behind", Value::Null, 1, 0),
    ] {
        let mut report = good();
        report[key] = value.clone();
        let (found, warned) = report::check(&report);
        assert_eq!(
            (found.len(), warned.len()),
            (faults, warnings),
            "{key} = {value}: {found:?} {warned:?}"
        );
    }
}
