//! Cross-connects on one node.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nsm_kernel::{Executor, NetnsFd, Steps};
use nsm_plan::{NetnsId, Plan, Side};

use crate::support::{Node, exchange, isolated, joined, key, side};

/// How often a connection is made anew, or its client's end set down.
const RUNS: usize = 100;
/// Far below the second after which the kernel asks again.
const AT_ONCE: Duration = Duration::from_millis(500);
/// Bounds a failing test.
const LIMIT: Duration = Duration::from_secs(10);

/// Family, the client's address, the endpoint's.
const FAMILIES: &[(&str, &[&str], &[&str])] = &[
    ("IPv4", &["172.16.0.1/32"], &["172.16.0.0/32"]),
    ("IPv6", &["fd00::1/128"], &["fd00::/128"]),
    (
        "dual stack",
        &["172.16.0.1/32", "fd00::1/128"],
        &["172.16.0.0/32", "fd00::/128"],
    ),
];

fn plan(client: NetnsId, endpoint: NetnsId, near: &[&str], far: &[&str]) -> Plan {
    let client = side(client, "nsm-c", 1, near, far);
    let endpoint = side(endpoint, "nsm-e", 2, far, near);
    joined(key(7), Side::Kernel(client), Side::Kernel(endpoint))
}

fn host(net: &str) -> &str {
    net.split('/').next().unwrap()
}

#[test]
fn a_veth_pair_carries_packets_both_ways() {
    isolated("connect::a_veth_pair_carries_packets_both_ways", || {
        for (family, near, far) in FAMILIES {
            let mut node = Node::new();
            let (client, endpoint) = (node.pod(), node.pod());
            let applied = node
                .executor
                .apply(&plan(client, endpoint, near, far), &node.pods)
                .unwrap();
            assert_eq!(applied.namespaces.len(), 2, "{family}");
            for (near, far) in near.iter().zip(*far) {
                exchange(
                    &node.udp(client, host(near)),
                    &node.udp(endpoint, host(far)),
                );
            }
        }
    });
}

/// Nobody answers a question for a hardware address before that: the kernel asks again only after
/// a second.
#[test]
fn a_client_can_send_when_its_endpoint_can_answer() {
    isolated(
        "connect::a_client_can_send_when_its_endpoint_can_answer",
        || {
            let mut node = Node::new();
            let (_, near, far) = FAMILIES[2];
            let (client, endpoint) = (node.pod(), node.pod());
            let looking = Node {
                executor: Executor::new("other").unwrap(),
                pods: node.pods.clone(),
            };
            let looks = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&looks);
            let steps = Steps::new(move || {
                let sends =
                    |pod, family: &str| !looking.ip(pod, &format!("{family} route")).is_empty();
                if sends(client, "-4") {
                    count.fetch_add(1, Ordering::SeqCst);
                    assert!(looking.ip(endpoint, "-4 addr").contains(far[0]));
                    assert!(sends(endpoint, "-4"), "no way back");
                }
            });
            let own = NetnsFd::current().unwrap();
            node.executor = Executor::stepping(&own, "forwarder", steps).unwrap();
            let plan = plan(client, endpoint, near, far);
            node.executor.apply(&plan, &node.pods).unwrap();
            assert!(looks.load(Ordering::SeqCst) > 0);
        },
    );
}

/// A flow that goes on while its connection is made anew, or repaired, is not held up for the
/// second after which a question for a hardware address is asked again.
#[test]
fn a_flow_that_goes_on_is_there_at_once() {
    isolated("connect::a_flow_that_goes_on_is_there_at_once", || {
        let mut node = Node::new();
        let (_, near, far) = FAMILIES[0];
        let (client, endpoint) = (node.pod(), node.pod());
        let plan = plan(client, endpoint, near, far);
        let (echo, flow) = (node.udp(endpoint, "0.0.0.0"), node.udp(client, "0.0.0.0"));
        let port = echo.local_addr().unwrap().port();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut packet = [0; 16];
                while !ended.load(Ordering::SeqCst) {
                    if let Ok((length, from)) = echo.recv_from(&mut packet) {
                        let _sent = echo.send_to(&packet[..length], from);
                    }
                }
            });
            scope.spawn(|| {
                while !ended.load(Ordering::SeqCst) {
                    // There is no way, most of the time.
                    let _sent = flow.send_to(&[7], (host(far[0]), port));
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
            let _whatever_happens = End(&ended);
            node.executor.apply(&plan, &node.pods).unwrap();
            for set_down in [true, false] {
                for run in 0..RUNS {
                    match set_down {
                        true => drop(node.ip(client, "link set nsm-c down")),
                        false => node.executor.undo(&plan).unwrap(),
                    }
                    assert!(node.executor.reaper().wait_idle(LIMIT));
                    silent(&flow);
                    match set_down {
                        true => drop(node.executor.repair(&plan).unwrap()),
                        false => drop(node.executor.apply(&plan, &node.pods).unwrap()),
                    }
                    let began = Instant::now();
                    flow.recv_from(&mut [0; 16]).unwrap();
                    let took = began.elapsed();
                    assert!(took < AT_ONCE, "set down: {set_down}, run {run}: {took:?}");
                }
            }
        });
    });
}

/// Ends what runs until this is true.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Takes what has come so far.
fn silent(flow: &UdpSocket) {
    flow.set_nonblocking(true).unwrap();
    while flow.recv_from(&mut [0; 16]).is_ok() {}
    flow.set_nonblocking(false).unwrap();
}

#[test]
fn applied_twice_is_applied_once() {
    isolated("connect::applied_twice_is_applied_once", || {
        let (_, near, far) = FAMILIES[2];
        let mut node = Node::new();
        let (client, endpoint) = (node.pod(), node.pod());
        let plan = plan(client, endpoint, near, far);
        let first = node.executor.apply(&plan, &node.pods).unwrap();
        let before: Vec<_> = node
            .links(client)
            .into_iter()
            .map(|link| (link.index, link.name))
            .collect();
        let second = node.executor.apply(&plan, &node.pods).unwrap();
        let after: Vec<_> = node
            .links(client)
            .into_iter()
            .map(|link| (link.index, link.name))
            .collect();
        assert_eq!((first, before), (second, after));
        for (near, far) in near.iter().zip(far) {
            exchange(
                &node.udp(client, host(near)),
                &node.udp(endpoint, host(far)),
            );
        }
    });
}

#[test]
fn a_changed_context_changes_only_itself() {
    isolated("connect::a_changed_context_changes_only_itself", || {
        let mut node = Node::new();
        let (client, endpoint) = (node.pod(), node.pod());
        let old = plan(client, endpoint, &["172.16.0.1/32"], &["172.16.0.0/32"]);
        let new = plan(client, endpoint, &["172.16.0.3/32"], &["172.16.0.0/32"]);
        node.executor.apply(&old, &node.pods).unwrap();
        let index = node.links(client)[0].index;
        node.executor
            .change(&nsm_plan::diff(&old, &new), &node.pods)
            .unwrap();
        assert_eq!(node.links(client)[0].index, index);
        exchange(
            &node.udp(client, "172.16.0.3"),
            &node.udp(endpoint, "172.16.0.0"),
        );
    });
}

#[test]
fn routes_with_a_next_hop_and_neighbours_are_set() {
    isolated(
        "connect::routes_with_a_next_hop_and_neighbours_are_set",
        || {
            let mut node = Node::new();
            let (client, endpoint) = (node.pod(), node.pod());
            let mut near = side(
                client,
                "nsm-c",
                1,
                &["10.1.0.1/32", "fd01::1/128"],
                &["10.1.0.0/32", "fd01::/128"],
            );
            near.routes.push((
                "192.0.2.0/24".parse().unwrap(),
                Some("10.1.0.0".parse().unwrap()),
            ));
            near.routes.push((
                "2001:db8::/64".parse().unwrap(),
                Some("fd01::".parse().unwrap()),
            ));
            near.routes.push((
                "0.0.0.0/0".parse().unwrap(),
                Some("10.1.0.0".parse().unwrap()),
            ));
            near.neighbours
                .push(("10.1.0.0".parse().unwrap(), [2, 0, 0, 0, 0, 2]));
            near.neighbours
                .push(("fd01::".parse().unwrap(), [2, 0, 0, 0, 0, 2]));
            let own = [
                "10.1.0.0/32",
                "fd01::/128",
                "192.0.2.7/32",
                "2001:db8::7/128",
                "198.51.100.7/32",
            ];
            let far = side(endpoint, "nsm-e", 2, &own, &["10.1.0.1/32", "fd01::1/128"]);
            let plan = joined(key(7), Side::Kernel(near), Side::Kernel(far));
            for _ in 0..2 {
                node.executor.apply(&plan, &node.pods).unwrap();
            }
            for server in ["192.0.2.7", "2001:db8::7", "198.51.100.7"] {
                let own = if server.contains(':') {
                    "fd01::1"
                } else {
                    "10.1.0.1"
                };
                exchange(&node.udp(client, own), &node.udp(endpoint, server));
            }
        },
    );
}
