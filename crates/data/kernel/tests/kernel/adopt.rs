//! Taking over after a restart, and putting right what somebody changed by hand.

use nsm_kernel::{Adopted, Executor, NetnsRef};
use nsm_plan::{NetnsId, Plan, Side};

use crate::support::{Node, exchange, isolated, joined, key, side};

/// One of everything: both families, a next hop, neighbours.
pub(crate) fn full(node: &mut Node) -> (Plan, NetnsId, NetnsId) {
    let (client, endpoint) = (node.pod(), node.pod());
    let (near, far) = (
        ["10.1.0.1/32", "fd01::1/128"],
        ["10.1.0.0/32", "fd01::/128"],
    );
    let mut near_side = side(client, "nsm-c", 1, &near, &far);
    let via = (
        "192.0.2.0/24".parse().unwrap(),
        Some("10.1.0.0".parse().unwrap()),
    );
    near_side.routes.push(via);
    for peer in ["10.1.0.0", "fd01::"] {
        near_side
            .neighbours
            .push((peer.parse().unwrap(), [2, 0, 0, 0, 0, 2]));
    }
    let far_side = side(endpoint, "nsm-e", 2, &far, &near);
    (
        joined(key(7), Side::Kernel(near_side), Side::Kernel(far_side)),
        client,
        endpoint,
    )
}

fn talk(node: &Node, client: NetnsId, endpoint: NetnsId) {
    for (one, other) in [("10.1.0.1", "10.1.0.0"), ("fd01::1", "fd01::")] {
        exchange(&node.udp(client, one), &node.udp(endpoint, other));
    }
}

/// What is done in the client's namespace, and what is said to have been put right.
const BY_HAND: &[(&[&str], &str)] = &[
    (&["link set nsm-c down"], "was down"),
    (&["link set nsm-c name other"], "was named other"),
    (
        &["link set nsm-c down", "link set nsm-c name other"],
        "was named other, was down",
    ),
    (&["link set nsm-c mtu 1300"], "had MTU 1300"),
    (&["link set nsm-c alias mine"], "was without its alias"),
    (&["link set nsm-c group 0"], "was in group 0"),
    (
        &["link set nsm-c address 02:00:00:00:00:77"],
        "had another hardware address",
    ),
    (&["addr del 10.1.0.1/32 dev nsm-c"], "nsm-c 10.1.0.1/32"),
    (&["addr del fd01::1/128 dev nsm-c"], "nsm-c fd01::1/128"),
    (
        &[
            "addr del fd01::1/128 dev nsm-c",
            "addr add fd01::1/64 dev nsm-c nodad",
        ],
        "nsm-c fd01::1/128",
    ),
    (&["addr flush dev nsm-c"], "address"),
    (&["route del 10.1.0.0/32"], "nsm-c 10.1.0.0/32 link"),
    (&["route del fd01::/128"], "nsm-c fd01::/128 link"),
    (
        &["route replace 192.0.2.0/24 dev nsm-c"],
        "nsm-c 192.0.2.0/24 via 10.1.0.0",
    ),
    (&["neigh del fd01:: dev nsm-c"], "nsm-c fd01:: at"),
    (
        &["neigh replace 10.1.0.0 lladdr 02:00:00:00:00:99 dev nsm-c"],
        "nsm-c 10.1.0.0 at",
    ),
    (&["link del nsm-c"], "link veth"),
];

#[test]
fn what_is_changed_by_hand_is_put_right() {
    isolated("adopt::what_is_changed_by_hand_is_put_right", || {
        for restarted in [false, true] {
            let mut node = Node::new();
            let (plan, client, endpoint) = full(&mut node);
            let journal = node.executor.apply(&plan, &node.pods).unwrap().namespaces;
            let wanted = [client, endpoint].map(|pod| node.everything(pod));
            let index = node.links(client)[0].index;
            for (changes, says) in BY_HAND {
                changes
                    .iter()
                    .for_each(|change| drop(node.ip(client, change)));
                assert_ne!([client, endpoint].map(|pod| node.everything(pod)), wanted);
                let found = if restarted {
                    node.executor = Executor::new("forwarder").unwrap();
                    node.executor.adopt(&plan, &journal).unwrap()
                } else {
                    node.executor.repair(&plan).unwrap()
                };
                let Adopted::Repaired(what) = &found else {
                    panic!("{changes:?}: {found:?}");
                };
                assert!(what.join("; ").contains(says), "{changes:?}: {what:?}");
                assert!(
                    node.executor
                        .reaper()
                        .wait_idle(std::time::Duration::from_secs(2))
                );
                let now = [client, endpoint].map(|pod| node.everything(pod));
                assert_eq!(now.concat(), wanted.concat(), "{changes:?}");
                assert_eq!(
                    node.executor.repair(&plan).unwrap(),
                    Adopted::AsItWas,
                    "{changes:?}"
                );
                talk(&node, client, endpoint);
                assert_eq!(node.links(client)[0].index, index, "{changes:?}");
            }
        }
    });
}

#[test]
fn what_a_workload_has_of_its_own_stays() {
    isolated("adopt::what_a_workload_has_of_its_own_stays", || {
        let mut node = Node::new();
        let (plan, client, _) = full(&mut node);
        let journal = node.executor.apply(&plan, &node.pods).unwrap().namespaces;
        for own in [
            "addr add 10.9.9.9/32 dev nsm-c",
            "route add 198.51.100.0/24 dev nsm-c",
        ] {
            node.ip(client, own);
        }
        let before = node.everything(client);
        node.executor = Executor::new("forwarder").unwrap();
        assert_eq!(
            node.executor.adopt(&plan, &journal).unwrap(),
            Adopted::AsItWas
        );
        assert_eq!(node.everything(client), before);
    });
}

/// Without file handles (Linux before 6.18) a namespace is found by one of its processes.
#[test]
fn a_namespace_is_known_by_its_inode_and_nothing_less() {
    isolated(
        "adopt::a_namespace_is_known_by_its_inode_and_nothing_less",
        || {
            let mut node = Node::new();
            let (plan, client, endpoint) = full(&mut node);
            let journal = node.executor.apply(&plan, &node.pods).unwrap().namespaces;
            node.executor = Executor::new("forwarder").unwrap();
            let without: Vec<NetnsRef> = journal
                .iter()
                .map(|place| NetnsRef {
                    handle: None,
                    ..place.clone()
                })
                .collect();
            let nobody = Adopted::Gone(plan.namespaces());
            assert_eq!(
                node.executor.adopt(&plan, &without).unwrap(),
                nobody,
                "no process is in them"
            );
            // The pid may be the same: the namespace is another, perhaps of the same inode.
            node.pods.remove(&client);
            while !node.names(endpoint).is_empty() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let _another = node.pod();
            let gone = Adopted::Gone([client].into());
            assert_eq!(node.executor.adopt(&plan, &journal).unwrap(), gone);
            node.executor.undo(&plan).unwrap();
        },
    );
}

#[test]
fn a_name_taken_by_somebody_else_is_told() {
    isolated("adopt::a_name_taken_by_somebody_else_is_told", || {
        let mut node = Node::new();
        let (plan, client, _) = full(&mut node);
        node.executor.apply(&plan, &node.pods).unwrap();
        for by_hand in [
            "link set nsm-c down",
            "link set nsm-c name other",
            "link add nsm-c type veth peer name x",
        ] {
            node.ip(client, by_hand);
        }
        let theirs = |node: &Node| -> Vec<_> {
            let links = node.links(client).into_iter();
            links.filter(|link| link.name != "other").collect()
        };
        let before = theirs(&node);
        let error = node.executor.repair(&plan).unwrap_err();
        assert!(
            error.to_string().contains("interface name nsm-c is in use"),
            "{error}"
        );
        assert_eq!(theirs(&node), before, "theirs is not touched");
    });
}
