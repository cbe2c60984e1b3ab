//! VXLAN: two nodes as two namespaces, the underlay a veth pair between them.

use nsm_kernel::error::ApplyError;
use nsm_kernel::{Executor, NetnsFd, setup};
use nsm_model::mechanism::{Mtu, Vni};
use nsm_plan::{NetnsId, Side};

use crate::support::{Node, exchange, isolated, joined, key, side, tunnel};

/// The underlay's family and the two nodes' addresses.
const UNDERLAYS: &[(&str, &str, &str)] = &[
    ("IPv4", "192.0.2.1", "192.0.2.2"),
    ("IPv6", "2001:db8::1", "2001:db8::2"),
];

/// Two executors whose nodes are connected by a link of MTU 1500, and a pod on each.
pub(crate) fn nodes(lab: &mut Node, addresses: [&str; 2]) -> [(Executor, NetnsId); 2] {
    let (one, other) = (lab.pod(), lab.pod());
    let (left, right) = ("eth0".parse().unwrap(), "eth0".parse().unwrap());
    let workers = lab.executor.workers();
    setup::veth(
        workers,
        (&lab.pods[&one], &left),
        (&lab.pods[&other], &right),
        1500,
    )
    .unwrap();
    [(one, addresses[0]), (other, addresses[1])].map(|(node, address)| {
        let length = if address.contains(':') { 64 } else { 24 };
        let net = format!("{address}/{length}").parse().unwrap();
        let name = "eth0".parse().unwrap();
        setup::within(lab.executor.workers(), &lab.pods[&node], move |own| {
            own.add_address(&name, net)
        })
        .unwrap();
        (
            Executor::within(&lab.pods[&node], "forwarder").unwrap(),
            lab.pod(),
        )
    })
}

#[test]
fn a_tunnel_carries_packets_between_nodes() {
    isolated("tunnels::a_tunnel_carries_packets_between_nodes", || {
        for (family, one, other) in UNDERLAYS {
            let mut lab = Node::new();
            let [(first, client), (second, endpoint)] = nodes(&mut lab, [one, other]);
            let (near, far) = (
                &["10.1.0.1/32", "fd01::1/128"],
                &["10.1.0.0/32", "fd01::/128"],
            );
            let mut near_side = side(client, "nsm-c", 1, near, far);
            let mut far_side = side(endpoint, "nsm-e", 2, far, near);
            for side in [&mut near_side, &mut far_side] {
                side.mtu = Mtu::new(1430).unwrap();
            }
            let near = joined(
                key(1),
                Side::Kernel(near_side),
                Side::Vxlan(tunnel(one, other, 77)),
            );
            let far = joined(
                key(1),
                Side::Vxlan(tunnel(other, one, 77)),
                Side::Kernel(far_side),
            );
            second.apply(&far, &lab.pods).unwrap();
            first.apply(&near, &lab.pods).unwrap();
            // Applied twice is applied once.
            first.apply(&near, &lab.pods).unwrap();
            for (a, b) in [("10.1.0.1", "10.1.0.0"), ("fd01::1", "fd01::")] {
                exchange(&lab.udp(client, a), &lab.udp(endpoint, b));
            }
            let state = &lab.links(client)[0];
            assert_eq!((state.mtu, state.vni), (1430, Some(77)), "{family}");
            first.undo(&near).unwrap();
            second.undo(&far).unwrap();
            assert!(first.reaper().wait_idle(std::time::Duration::from_secs(2)));
            assert!(second.reaper().wait_idle(std::time::Duration::from_secs(2)));
            assert!(lab.names(client).is_empty() && lab.names(endpoint).is_empty());
        }
    });
}

#[test]
fn a_vni_in_use_is_a_typed_refusal() {
    isolated("tunnels::a_vni_in_use_is_a_typed_refusal", || {
        let mut lab = Node::new();
        let (first, second) = (lab.pod(), lab.pod());
        let plan = |n, netns, remote| {
            let kernel = side(netns, "nsm-c", n, &["10.1.0.1/32"], &["10.1.0.0/32"]);
            joined(
                key(n),
                Side::Kernel(kernel),
                Side::Vxlan(tunnel("192.0.2.1", remote, 77)),
            )
        };
        let (one, other) = (plan(1, first, "192.0.2.2"), plan(2, second, "192.0.2.3"));
        lab.executor.apply(&one, &lab.pods).unwrap();
        let error = lab.executor.apply(&other, &lab.pods).unwrap_err();
        let ApplyError::VniInUse { vni, port } = error else {
            panic!("{error:?}")
        };
        assert_eq!((vni, port), (Vni::new(77).unwrap(), 4789));
        assert!(lab.names(second).is_empty(), "left behind");
        // Closed is free, although the device is deleted a moment later.
        lab.executor.undo(&one).unwrap();
        lab.executor.apply(&other, &lab.pods).unwrap();
    });
}

#[test]
fn an_earlier_name_is_replaced() {
    isolated("tunnels::an_earlier_name_is_replaced", || {
        let mut lab = Node::new();
        let [(executor, pod), _] = nodes(&mut lab, ["192.0.2.1", "192.0.2.2"]);
        let plan = |name, far| {
            joined(
                key(1),
                far,
                Side::Kernel(side(pod, name, 1, &["10.1.0.0/32"], &["10.1.0.1/32"])),
            )
        };
        let vxlan = |vni| Side::Vxlan(tunnel("192.0.2.1", "192.0.2.2", vni));
        executor
            .apply(&plan("nsm-a", vxlan(77)), &lab.pods)
            .unwrap();
        // As a forwarder that was started again finds it, with an endpoint that names anew.
        for (name, vni) in [("nsm-b", 78), ("nsm-c", 78), ("nsm-a", 77)] {
            executor.apply(&plan(name, vxlan(vni)), &lab.pods).unwrap();
            assert!(
                executor
                    .reaper()
                    .wait_idle(std::time::Duration::from_secs(2))
            );
            assert_eq!(lab.names(pod), [name.to_owned()].into(), "{name} {vni}");
            let state = &lab.links(pod)[0];
            assert_eq!((state.vni, state.up), (Some(vni), true), "{name}");
        }
        // The same where both ends are on this node.
        let client = lab.pod();
        let near = |name| Side::Kernel(side(client, name, 2, &["10.1.0.1/32"], &["10.1.0.0/32"]));
        for (name, far) in [("nsm-a", "nsm-f"), ("nsm-b", "nsm-f"), ("nsm-b", "nsm-g")] {
            executor.apply(&plan(name, near(far)), &lab.pods).unwrap();
            assert!(
                executor
                    .reaper()
                    .wait_idle(std::time::Duration::from_secs(2))
            );
            assert_eq!(lab.names(pod), [name.to_owned()].into(), "{name} {far}");
            assert_eq!(lab.names(client), [far.to_owned()].into(), "{name} {far}");
        }
    });
}

#[test]
fn the_underlay_answers_for_itself() {
    isolated("tunnels::the_underlay_answers_for_itself", || {
        for (_, one, other) in UNDERLAYS {
            let mut lab = Node::new();
            let [_, (_, pod)] = nodes(&mut lab, [one, other]);
            let nodes: Vec<NetnsFd> = lab
                .pods
                .values()
                .filter(|netns| netns.id() != pod)
                .cloned()
                .collect();
            let ask = |netns: &NetnsFd, peer: &str| {
                let peer = peer.parse().unwrap();
                let workers = lab.executor.workers();
                let local = workers
                    .inside(netns, move || setup::local_address_towards(peer))
                    .unwrap()
                    .ok()?;
                let mtu = setup::within(workers, netns, move |own| own.mtu_of(local)).unwrap();
                Some((local.to_string(), mtu))
            };
            let answers: Vec<_> = nodes.iter().filter_map(|netns| ask(netns, other)).collect();
            assert!(
                answers.contains(&((*one).to_owned(), Some(1500))),
                "{answers:?}"
            );
        }
    });
}
