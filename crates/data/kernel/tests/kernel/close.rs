//! Undo: at once out of use, two seconds later gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nsm_kernel::{Adopted, Executor, stats::LinkReader};
use nsm_plan::{GROUP, REAP_GROUP, Side};

use crate::support::{Node, count, exchange, isolated, joined, key, side};

/// Invariant 3: nothing at all is left then.
const ALL_GONE: Duration = Duration::from_secs(2);
/// More than any table or pool of ours holds, so that a leak of one a cycle shows.
const CYCLES: u8 = 100;

#[test]
fn undo_takes_everything_out_of_use_and_then_away() {
    isolated(
        "close::undo_takes_everything_out_of_use_and_then_away",
        || {
            let mut node = Node::new();
            let (plan, client, endpoint) = node.pair(
                key(1),
                &["10.1.0.1/32", "fd01::1/128"],
                &["10.1.0.0/32", "fd01::/128"],
            );
            node.executor.apply(&plan, &node.pods).unwrap();
            exchange(
                &node.udp(client, "10.1.0.1"),
                &node.udp(endpoint, "10.1.0.0"),
            );
            node.executor.undo(&plan).unwrap();
            for pod in [client, endpoint] {
                for link in node.links(pod) {
                    assert!(
                        !link.up && link.group == REAP_GROUP && link.alias.is_empty(),
                        "in use after close: {link:?}"
                    );
                    assert!(
                        link.name.starts_with("nsz-"),
                        "name in use after close: {link:?}"
                    );
                }
                let bound = node.executor.workers().inside(&node.pods[&pod], || {
                    std::net::UdpSocket::bind("10.1.0.1:0").is_ok()
                });
                assert!(!bound.unwrap(), "address in use after close");
            }
            assert!(node.executor.reaper().wait_idle(ALL_GONE));
            assert!(node.names(client).is_empty() && node.names(endpoint).is_empty());
            node.executor.undo(&plan).unwrap();
        },
    );
}

#[test]
fn undo_succeeds_when_the_namespace_is_gone() {
    isolated("close::undo_succeeds_when_the_namespace_is_gone", || {
        let mut node = Node::new();
        let (plan, client, endpoint) = node.pair(key(2), &["10.1.0.1/32"], &["10.1.0.0/32"]);
        node.executor.apply(&plan, &node.pods).unwrap();
        node.pods.remove(&client);
        let deadline = Instant::now() + ALL_GONE;
        while !node.names(endpoint).is_empty() {
            assert!(
                Instant::now() < deadline,
                "a namespace without descriptors, processes and sockets lives on: something pins it"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        node.executor.undo(&plan).unwrap();
        assert!(node.executor.reaper().wait_idle(ALL_GONE));
    });
}

#[test]
fn a_new_executor_closes_what_an_old_one_made() {
    isolated("close::a_new_executor_closes_what_an_old_one_made", || {
        for with_handles in [true, false] {
            let mut node = Node::new();
            let (plan, client, endpoint) = node.pair(key(3), &["10.1.0.1/32"], &["10.1.0.0/32"]);
            let mut journal = node.executor.apply(&plan, &node.pods).unwrap().namespaces;
            if !with_handles {
                journal.iter_mut().for_each(|place| place.handle = None);
            }
            node.executor = Executor::new("forwarder").unwrap();
            let found = node.executor.adopt(&plan, &journal).unwrap();
            assert_eq!(found == Adopted::AsItWas, with_handles);
            node.executor.undo(&plan).unwrap();
            assert!(node.executor.reaper().wait_idle(ALL_GONE));
            assert!(
                node.names(client).is_empty() && node.names(endpoint).is_empty(),
                "with handles: {with_handles}"
            );
        }
    });
}

#[test]
fn the_same_connection_comes_back_at_once() {
    isolated("close::the_same_connection_comes_back_at_once", || {
        let mut node = Node::new();
        let (plan, client, endpoint) = node.pair(key(4), &["10.1.0.1/32"], &["10.1.0.0/32"]);
        for _ in 0..5 {
            node.executor.apply(&plan, &node.pods).unwrap();
            exchange(
                &node.udp(client, "10.1.0.1"),
                &node.udp(endpoint, "10.1.0.0"),
            );
            node.executor.undo(&plan).unwrap();
        }
    });
}

#[test]
fn links_are_found_by_number_group_and_alias() {
    isolated("close::links_are_found_by_number_group_and_alias", || {
        let mut node = Node::new();
        let (plan, client, endpoint) = node.pair(key(5), &["10.1.0.1/32"], &["10.1.0.0/32"]);
        let applied = node.executor.apply(&plan, &node.pods).unwrap();
        exchange(
            &node.udp(client, "10.1.0.1"),
            &node.udp(endpoint, "10.1.0.0"),
        );
        let mut reader = LinkReader::open().unwrap();
        let known = reader.namespaces().unwrap();
        for place in &applied.namespaces {
            assert!(known.contains(&place.nsid));
            assert_eq!(node.executor.namespace(place.nsid), Some(place.id));
            let (name, letter) = if place.id == client {
                ("nsm-c", 'c')
            } else {
                ("nsm-e", 'e')
            };
            let link = reader.link(Some(place.nsid), name).unwrap().unwrap();
            assert_eq!((link.group, link.up, link.running), (GROUP, true, true));
            assert_eq!(link.alias, format!("nsm1:{}:{letter}", "05".repeat(16)));
            assert!(
                link.counters.rx_packets > 0 && link.counters.tx_bytes > 0,
                "{:?}",
                link.counters
            );
            assert!(
                reader
                    .links(Some(place.nsid))
                    .unwrap()
                    .iter()
                    .any(|other| other.name == name)
            );
        }
        assert_eq!(reader.link(Some(4711), "nsm-c").unwrap(), None);
    });
}

#[test]
fn a_hundred_connections_leak_nothing() {
    isolated("close::a_hundred_connections_leak_nothing", || {
        let mut node = Node::new();
        let (client, endpoint) = (node.pod(), node.pod());
        let cycle = |n: u8| {
            let near = side(client, "nsm-c", 1, &["10.1.0.1/32"], &["10.1.0.0/32"]);
            let far = side(endpoint, "nsm-e", 2, &["10.1.0.0/32"], &["10.1.0.1/32"]);
            let plan = joined(key(n), Side::Kernel(near), Side::Kernel(far));
            node.executor.apply(&plan, &node.pods).unwrap();
            node.executor.undo(&plan).unwrap();
        };
        cycle(0);
        assert!(node.executor.reaper().wait_idle(ALL_GONE));
        let before: BTreeMap<_, _> = ["fd", "task"].map(|what| (what, count(what))).into();
        (1..=CYCLES).for_each(cycle);
        assert!(node.executor.reaper().wait_idle(ALL_GONE));
        let after: BTreeMap<_, _> = ["fd", "task"].map(|what| (what, count(what))).into();
        assert_eq!(before, after, "descriptors and threads");
        assert!(node.names(client).is_empty() && node.names(endpoint).is_empty());
    });
}
