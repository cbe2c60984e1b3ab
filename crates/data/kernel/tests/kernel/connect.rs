//! Cross-connects on one node.

use nsm_plan::{NetnsId, Plan, Side};

use crate::support::{Node, exchange, isolated, joined, key, side};

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
