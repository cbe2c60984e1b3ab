//! A passthrough endpoint: bare ends as ports of a bridge.

use std::time::{Duration, Instant};

use nsm_kernel::NetnsFd;
use nsm_kernel::arrivals::Arrivals;
use nsm_kernel::setup::{self, Own};
use nsm_kernel::stats::LinkReader;
use nsm_model::ifname::IfName;
use nsm_model::mechanism::Mtu;
use nsm_plan::Side;

use crate::support::{Node, count, exchange, isolated, joined, key, side};

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

/// How soon an interface that comes is known.
const SOON: Duration = Duration::from_millis(100);

#[test]
fn an_interface_that_comes_is_told_each_time() {
    isolated("bridges::an_interface_that_comes_is_told_each_time", || {
        let mut node = Node::new();
        let pod = node.pod();
        let (bridge, port): (IfName, IfName) = ("nsm-br".parse().unwrap(), "port".parse().unwrap());
        let mut own = Own::open().unwrap();
        own.ensure_bridge(&bridge, Mtu::new(1450).unwrap()).unwrap();
        let threads = count("task");
        let join = {
            let port = port.clone();
            move |name: Option<&str>| {
                if name.is_none_or(|name| name == port.as_str()) {
                    let _gone = Own::open().unwrap().enslave(&bridge, &port);
                }
            }
        };
        let arrivals = Arrivals::start(join).unwrap();
        let here = NetnsFd::current().unwrap();
        let is_port = || {
            let found = LinkReader::open().unwrap().link(None, "port").unwrap();
            found.is_some_and(|link| link.master.is_some())
        };
        let other = "other".parse().unwrap();
        for _ in 0..3 {
            let workers = node.executor.workers();
            setup::veth(workers, (&here, &port), (&node.pods[&pod], &other), 1450).unwrap();
            let began = Instant::now();
            while !is_port() {
                assert!(began.elapsed() < SOON, "nobody was told");
            }
            own.delete(&port).unwrap();
        }
        drop(arrivals);
        assert_eq!(count("task"), threads);
    });
}

/// Whoever is behind a function asks as soon as it has a route, as whoever is before it does.
#[test]
fn a_repair_comes_to_an_end_when_the_function_is_joined() {
    isolated(
        "bridges::a_repair_comes_to_an_end_when_the_function_is_joined",
        || {
            let mut node = Node::new();
            let (firewall, gateway) = (node.pod(), node.pod());
            let mut out = side(firewall, "out", 3, &["10.1.0.1/32"], &["10.1.0.0/32"]);
            out.bare = true;
            let far = side(gateway, "nsm-e", 2, &["10.1.0.0/32"], &["10.1.0.1/32"]);
            let plan = joined(key(1), Side::Kernel(out), Side::Kernel(far));
            node.executor.apply(&plan, &node.pods).unwrap();
            node.ip(firewall, "link del out");
            let (workers, pod) = (node.executor.workers(), &node.pods[&firewall]);
            let join = |own: &mut Own| {
                let bridge = "nsm-br".parse().unwrap();
                own.ensure_bridge(&bridge, Mtu::new(1450).unwrap())?;
                own.enslave(&bridge, &"out".parse().unwrap())
            };
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    // Longer than a repair takes.
                    std::thread::sleep(Duration::from_millis(15));
                    while setup::within(workers, pod, join).is_err() {}
                });
                node.executor.repair(&plan).unwrap();
                let links = node.links(firewall);
                let port = links.iter().find(|link| link.name == "out").unwrap();
                assert!(port.master.is_some(), "it waited");
            });
        },
    );
}
