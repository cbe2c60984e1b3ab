//! Replacing an interface while packets flow.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nsm_kernel::Executor;
use nsm_plan::{NetnsId, Plan, Side, diff, succeed};

use crate::support::{Node, isolated, joined, key, side, tunnel};
use crate::tunnels::nodes;

/// The echo service (RFC 862).
const ECHO: u16 = 7;
/// A thousand packets a second.
const BETWEEN: Duration = Duration::from_millis(1);
/// Packets flow this long before and after each replacement.
const FLOW: Duration = Duration::from_millis(100);
/// All that was retired is gone: the linger, and what a delete takes.
const ALL_GONE: Duration = Duration::from_secs(2);
const NEAR: [&str; 2] = ["10.1.0.1/32", "fd01::1/128"];
const FAR: [&str; 2] = ["10.1.0.0/32", "fd01::/128"];

/// Answers in a pod until told to stop, on every address of the endpoint.
fn serve(lab: &Node, pod: NetnsId, stop: &Arc<AtomicBool>) -> Vec<thread::JoinHandle<()>> {
    let serve = |address: &str| {
        let at = SocketAddr::new(address.parse().unwrap(), ECHO);
        let bind = move || UdpSocket::bind(at).unwrap();
        let workers = lab.executor.workers();
        let socket = workers.inside(&lab.pods[&pod], bind).unwrap();
        socket.set_read_timeout(Some(FLOW)).unwrap();
        let stop = Arc::clone(stop);
        thread::spawn(move || {
            let mut packet = [0; 16];
            while !stop.load(Ordering::SeqCst) {
                if let Ok((length, from)) = socket.recv_from(&mut packet) {
                    let _ = socket.send_to(&packet[..length], from);
                }
            }
        })
    };
    ["10.1.0.0", "fd01::"].map(serve).into()
}

/// Sends a numbered packet every millisecond until told to stop. Returns how many were sent and how
/// many answers came.
fn flow(socket: UdpSocket, to: &str, stop: &Arc<AtomicBool>) -> thread::JoinHandle<(u64, u64)> {
    let to = SocketAddr::new(to.parse().unwrap(), ECHO);
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let other = socket.try_clone().unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&done);
        let listen = thread::spawn(move || {
            let (mut came, mut packet) = (0u64, [0u8; 16]);
            while !ended.load(Ordering::SeqCst) {
                came += u64::from(other.recv_from(&mut packet).is_ok());
            }
            came
        });
        let (begin, mut sent) = (Instant::now(), 0);
        while !stop.load(Ordering::SeqCst) {
            socket.send_to(&u64::to_be_bytes(sent), to).unwrap();
            sent += 1;
            let due = begin + BETWEEN * u32::try_from(sent).unwrap();
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        thread::sleep(FLOW);
        done.store(true, Ordering::SeqCst);
        (sent, listen.join().unwrap())
    })
}

fn client(pod: NetnsId) -> Side {
    Side::Kernel(side(pod, "nsm-c", 1, &NEAR, &FAR))
}

fn endpoint(pod: NetnsId) -> Side {
    Side::Kernel(side(pod, "nsm-e", 2, &FAR, &NEAR))
}

/// Two endpoints here and two on another node; the plan of a connection to each.
fn mesh(lab: &mut Node) -> (Executor, Executor, NetnsId, Vec<Plan>, Vec<NetnsId>) {
    let [(first, pod), (second, third)] = nodes(lab, ["192.0.2.1", "192.0.2.2"]);
    let (one, two, fourth) = (lab.pod(), lab.pod(), lab.pod());
    let mut plans: Vec<Plan> = [one, two]
        .map(|there| joined(key(1), client(pod), endpoint(there)))
        .into();
    for (there, vni) in [(third, 77), (fourth, 78)] {
        let back = Side::Vxlan(tunnel("192.0.2.2", "192.0.2.1", vni));
        let far = joined(key(u8::try_from(vni).unwrap()), back, endpoint(there));
        second.apply(&far, &lab.pods).unwrap();
        let out = Side::Vxlan(tunnel("192.0.2.1", "192.0.2.2", vni));
        plans.push(joined(key(1), client(pod), out));
    }
    (first, second, pod, plans, vec![one, two, third, fourth])
}

#[test]
fn no_packet_is_lost_while_an_interface_is_replaced() {
    isolated(
        "takeover::no_packet_is_lost_while_an_interface_is_replaced",
        || {
            let mut lab = Node::new();
            let (first, _second, pod, plans, endpoints) = mesh(&mut lab);
            // Each endpoint is reached once, so that it can listen.
            let mut standing = Plan::default();
            let stop = Arc::new(AtomicBool::new(false));
            let mut servers = Vec::new();
            for (plan, there) in plans.iter().zip(&endpoints) {
                let next = succeed(&standing, plan.clone());
                first.change(&diff(&standing, &next), &lab.pods).unwrap();
                standing = next;
                servers.extend(serve(&lab, *there, &stop));
            }
            let done = Arc::new(AtomicBool::new(false));
            let flows = [("10.1.0.1", "10.1.0.0"), ("fd01::1", "fd01::")]
                .map(|(own, to)| flow(lab.udp(pod, own), to, &done));
            for (from, to) in [
                (3, 0),
                (0, 1),
                (1, 2),
                (2, 3),
                (3, 1),
                (1, 0),
                (0, 2),
                (2, 0),
            ] {
                let next = succeed(&standing, plans[to].clone());
                let changes = diff(&standing, &next);
                assert_eq!(changes.swaps.len(), 1, "{from} to {to}");
                thread::sleep(FLOW);
                first.change(&changes, &lab.pods).unwrap();
                standing = next;
                let names = lab.names(pod);
                assert!(names.contains("nsm-c"), "{names:?}");
                thread::sleep(FLOW);
            }
            done.store(true, Ordering::SeqCst);
            for flow in flows {
                let (sent, came) = flow.join().unwrap();
                assert!(sent > 1000, "{sent}");
                assert_eq!(came, sent, "answers to {sent} packets");
            }
            stop.store(true, Ordering::SeqCst);
            servers
                .into_iter()
                .for_each(|server| server.join().unwrap());
            assert!(first.reaper().wait_idle(ALL_GONE));
            assert_eq!(lab.names(pod), ["nsm-c".to_owned()].into());
            first.undo(&standing).unwrap();
            assert!(first.reaper().wait_idle(ALL_GONE));
            assert_eq!(lab.names(pod), [].into());
        },
    );
}

/// Where addresses differ both are there until the old interface is gone.
#[test]
fn the_old_address_stays_for_what_is_under_way() {
    isolated(
        "takeover::the_old_address_stays_for_what_is_under_way",
        || {
            let mut node = Node::new();
            let (pod, one, two) = (node.pod(), node.pod(), node.pod());
            let plans =
                [(one, "10.1.0.1/32", 1), (two, "10.2.0.1/32", 3)].map(|(there, own, mac)| {
                    let near = side(pod, "nsm-c", mac, &[own], &["10.1.0.0/32"]);
                    let far = side(there, "nsm-e", 2, &["10.1.0.0/32"], &[own]);
                    joined(key(1), Side::Kernel(near), Side::Kernel(far))
                });
            let [old, new] = plans;
            node.executor.apply(&old, &node.pods).unwrap();
            let new = succeed(&old, new);
            node.executor.change(&diff(&old, &new), &node.pods).unwrap();
            let bound = |node: &Node, address: &str| {
                let at = SocketAddr::new(address.parse().unwrap(), 0);
                let bind = move || UdpSocket::bind(at).is_ok();
                node.executor
                    .workers()
                    .inside(&node.pods[&pod], bind)
                    .unwrap()
            };
            assert!(bound(&node, "10.1.0.1") && bound(&node, "10.2.0.1"));
            assert!(node.executor.reaper().wait_idle(ALL_GONE));
            assert!(!bound(&node, "10.1.0.1") && bound(&node, "10.2.0.1"));
            assert_eq!(node.names(one), [].into());
        },
    );
}

/// A port of a bridge: its successor is one in its place, and has no address either.
#[test]
fn the_port_of_a_bridge_is_replaced_by_a_port() {
    isolated(
        "takeover::the_port_of_a_bridge_is_replaced_by_a_port",
        || {
            let mut node = Node::new();
            let (pod, one, two) = (node.pod(), node.pod(), node.pod());
            let plans = [one, two].map(|there| {
                let mut port = side(pod, "out", 4, &NEAR, &FAR);
                port.bare = true;
                let far = side(there, "nsm-e", 2, &FAR, &NEAR);
                joined(key(1), Side::Kernel(port), Side::Kernel(far))
            });
            let [old, new] = plans;
            node.executor.apply(&old, &node.pods).unwrap();
            node.ip(pod, "link add nsm-br type bridge");
            node.ip(pod, "link set nsm-br up");
            node.ip(pod, "link set out master nsm-br");
            let new = succeed(&old, new);
            node.executor.change(&diff(&old, &new), &node.pods).unwrap();
            let links = node.links(pod);
            let of = |name: &str| links.iter().find(|link| link.name == name).unwrap();
            assert_eq!(of("out").master, Some(of("nsm-br").index));
            let ports = links.iter().filter(|link| link.master.is_some());
            assert_eq!(ports.count(), 1, "{links:?}");
            assert!(node.executor.reaper().wait_idle(ALL_GONE));
            let addresses = node.ip(pod, "-o addr show dev out");
            assert_eq!(addresses, "");
        },
    );
}

/// The old interface was gone: the new one takes the name all the same.
#[test]
fn what_is_gone_already_is_replaced_too() {
    isolated("takeover::what_is_gone_already_is_replaced_too", || {
        let mut lab = Node::new();
        let (first, _second, pod, plans, _) = mesh(&mut lab);
        first.apply(&plans[0], &lab.pods).unwrap();
        lab.ip(pod, "link del nsm-c");
        let new = succeed(&plans[0], plans[2].clone());
        first.change(&diff(&plans[0], &new), &lab.pods).unwrap();
        assert_eq!(lab.names(pod), ["nsm-c".to_owned()].into());
    });
}
