//! The measurements measure what is there.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use libc::{SIGCONT, SIGSTOP};
use nsm_lab::measure::{UdpFlow, port_open, tcp_throughput};
use nsm_lab::serve;

use crate::{Row, lab};

pub(crate) const TESTS: &[Row] = &[
    (
        "ports_are_open_where_something_listens",
        ports_are_open_where_something_listens,
    ),
    (
        "throughput_counts_what_arrived",
        throughput_counts_what_arrived,
    ),
    ("a_flow_sees_an_outage", a_flow_sees_an_outage),
];

fn ports_are_open_where_something_listens() -> Result<(), String> {
    let lab = lab();
    let (one, two) = (lab.node("one").unwrap(), lab.node("two").unwrap());
    let role = lab.role(&two, "server", |s| s).unwrap();
    let server = serve::start(&role, &[80, 8080], &[7]).unwrap();
    // A question for a hardware address that is lost, as links come up, is asked again after 1 s.
    let timeout = Duration::from_secs(3);
    for address in [IpAddr::from(two.addresses().v4), two.addresses().v6.into()] {
        for (port, expected) in [(80, true), (8080, true), (81, false)] {
            let open = port_open(one.cell(), (address, port).into(), timeout).unwrap();
            assert_eq!(open, expected, "{address} port {port}");
        }
    }
    assert!(
        serve::start(&role, &[80], &[]).is_err(),
        "the port is taken"
    );
    assert!(server.stop(Duration::from_secs(2)).is_some());
    assert!(!port_open(one.cell(), (two.addresses().v4, 80).into(), timeout).unwrap());
    Ok(())
}

fn throughput_counts_what_arrived() -> Result<(), String> {
    let lab = lab();
    let (one, two) = (lab.node("one").unwrap(), lab.node("two").unwrap());
    let role = lab.role(&two, "server", |s| s).unwrap();
    serve::start(&role, &[5201], &[]).unwrap();
    let to = (two.addresses().v4, 5201).into();
    let report = tcp_throughput(one.cell(), to, Duration::from_millis(300)).unwrap();
    assert!(report.bytes > 1 << 20 && report.gbps > 0.05, "{report:?}");
    assert!((0.3..3.0).contains(&report.seconds), "{report:?}");
    Ok(())
}

fn a_flow_sees_an_outage() -> Result<(), String> {
    let lab = lab();
    let (one, two) = (lab.node("one").unwrap(), lab.node("two").unwrap());
    let role = lab.role(&two, "server", |s| s).unwrap();
    let server = serve::start(&role, &[], &[7]).unwrap();
    let to: SocketAddr = (two.addresses().v6, 7).into();
    let flow = UdpFlow::start(one.cell(), to, 1000).unwrap();
    assert!(flow.wait_answer(Duration::ZERO, Duration::from_secs(2)));
    let begin = flow.now();
    std::thread::sleep(Duration::from_millis(300));
    let fault = flow.now();
    let calm = flow.report(begin, fault);
    assert!(calm.sent > 100 && calm.lost == 0, "{calm:?}");
    // A server that is kept waiting for the processor has lost nothing.
    server.signal(SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let slow = flow.now();
    let slow = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            server.signal(SIGCONT).unwrap();
        });
        flow.report(begin, slow)
    });
    assert!(slow.sent > calm.sent && slow.lost == 0, "{slow:?}");
    let fault = flow.now();
    assert!(server.stop(Duration::from_secs(2)).is_some());
    std::thread::sleep(Duration::from_millis(200));
    serve::start(&role, &[], &[7]).unwrap();
    assert!(flow.wait_answer(flow.now(), Duration::from_secs(2)));
    let report = flow.report(fault, flow.now());
    assert!(report.lost > 50 && report.outage_ms >= 190.0, "{report:?}");
    assert!(report.outage_end_ms > report.outage_begin_ms, "{report:?}");
    Ok(())
}
