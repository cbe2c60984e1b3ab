//! A passthrough endpoint: bare ends as ports of a bridge.

use std::time::{Duration, Instant};

use nsm_kernel::setup::{self, Own};
use nsm_model::mechanism::Mtu;
use nsm_plan::Side;

use crate::support::{Node, exchange, isolated, joined, key, side};

#[test]
fn a_bridge_of_bare_ends_carries_packets() {
    isolated("bridges::a_bridge_of_bare_ends_carries_packets", || {
        let mut node = Node::new();
        let (client, firewall, gateway) = (node.pod(), node.pod(), node.pod());
        let near = side(
            client,
            "nsm-c",
            1,
            &["10.1.0.1/32", "fd01::1/128"],
            &["10.1.0.0/32", "fd01::/128"],
        );
        let far = side(
            gateway,
            "nsm-e",
            2,
            &["10.1.0.0/32", "fd01::/128"],
            &["10.1.0.1/32", "fd01::1/128"],
        );
        let mut into = side(firewall, "in", 3, &["10.1.0.0/32"], &["10.1.0.1/32"]);
        into.bare = true;
        let mut out = into.clone();
        (out.name, out.mac) = ("out".parse().unwrap(), [2, 0, 0, 0, 0, 4]);
        let plans = [
            joined(key(1), Side::Kernel(near), Side::Kernel(into)),
            joined(key(2), Side::Kernel(out), Side::Kernel(far)),
        ];
        for plan in &plans {
            node.executor.apply(plan, &node.pods).unwrap();
        }
        let build = |own: &mut Own| {
            let bridge = "nsm-br".parse().unwrap();
            for _ in 0..2 {
                own.ensure_bridge(&bridge, Mtu::new(1450).unwrap())?;
            }
            own.enslave(&bridge, &"in".parse().unwrap())?;
            own.enslave(&bridge, &"out".parse().unwrap())
        };
        setup::within(node.executor.workers(), &node.pods[&firewall], build).unwrap();
        for (a, b) in [("10.1.0.1", "10.1.0.0"), ("fd01::1", "fd01::")] {
            exchange(&node.udp(client, a), &node.udp(gateway, b));
        }
        let links = node.links(firewall);
        let bridge = links.iter().find(|link| link.name == "nsm-br").unwrap();
        assert_eq!(
            links
                .iter()
                .filter(|link| link.master == Some(bridge.index))
                .count(),
            2
        );
        let inet6 = node.executor.workers().inside(&node.pods[&firewall], || {
            std::fs::read_to_string("/proc/thread-self/net/if_inet6")
        });
        assert!(
            !inet6
                .unwrap()
                .unwrap()
                .lines()
                .any(|line| !line.ends_with("lo")),
            "a bare end or the bridge has an address"
        );
        let delete = |own: &mut Own| own.delete_bridge(&"nsm-br".parse().unwrap());
        setup::within(node.executor.workers(), &node.pods[&firewall], delete).unwrap();
    });
}

/// Who is through a function asks for a hardware address at once, and is not heard before the
/// function's end is a port.
#[test]
fn routes_through_a_function_come_when_it_is_joined() {
    isolated(
        "bridges::routes_through_a_function_come_when_it_is_joined",
        || {
            let mut node = Node::new();
            let (client, firewall) = (node.pod(), node.pod());
            let near = side(client, "nsm-c", 1, &["10.1.0.1/32"], &["10.1.0.0/32"]);
            let mut into = side(firewall, "in", 3, &["10.1.0.0/32"], &["10.1.0.1/32"]);
            into.bare = true;
            let plan = joined(key(1), Side::Kernel(near), Side::Kernel(into));
            let (workers, pod) = (node.executor.workers(), &node.pods[&firewall]);
            let join = |own: &mut Own| {
                let bridge = "nsm-br".parse().unwrap();
                own.ensure_bridge(&bridge, Mtu::new(1450).unwrap())?;
                own.enslave(&bridge, &"in".parse().unwrap())
            };
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    // Longer than a plan takes.
                    std::thread::sleep(Duration::from_millis(15));
                    while setup::within(workers, pod, join).is_err() {}
                });
                node.executor.apply(&plan, &node.pods).unwrap();
                let port = node.links(firewall);
                let port = port.iter().find(|link| link.name == "in").unwrap();
                assert!(port.master.is_some(), "it waited");
            });
            let nobody = node.pod();
            let mut other = side(nobody, "in", 3, &["10.1.0.0/32"], &["10.1.0.1/32"]);
            other.bare = true;
            let near = side(client, "nsm-d", 1, &["10.2.0.1/32"], &["10.2.0.0/32"]);
            let plan = joined(key(2), Side::Kernel(near), Side::Kernel(other));
            let began = Instant::now();
            node.executor.apply(&plan, &node.pods).unwrap();
            assert!(began.elapsed() < Duration::from_millis(500), "not for ever");
        },
    );
}
