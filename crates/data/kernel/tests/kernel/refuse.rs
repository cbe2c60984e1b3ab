//! What is refused, with which words, and that nothing is left then.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nsm_kernel::error::{ApplyError, NetnsError};
use nsm_kernel::{Executor, NetnsFd, setup};
use nsm_plan::{Netns, REAP_GROUP, Side, diff};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::write;

use crate::support::{Node, exchange, isolated, joined, key, side};

/// So many links are closed while a plan is applied again and again.
const CLOSED: usize = 200;
/// Bounds a failing test.
const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_descriptor_of_something_else_is_refused() {
    isolated("refuse::a_descriptor_of_something_else_is_refused", || {
        for path in [
            "/dev/null",
            "/proc/self/ns/user",
            "/proc/self/ns/mnt",
            "/tmp",
            "/proc/self/status",
        ] {
            let error = NetnsFd::new(OwnedFd::from(File::open(path).unwrap())).unwrap_err();
            assert!(
                matches!(error, NetnsError::NotNetns { .. }),
                "{path}: {error:?}"
            );
            assert!(
                error.to_string().contains("is not a network namespace"),
                "{path}: {error}"
            );
        }
        assert!(NetnsFd::new(File::open("/proc/self/ns/net").unwrap().into()).is_ok());
    });
}

/// Peers of the Go implementation open what they pass with `O_PATH`.
#[test]
fn a_descriptor_that_only_names_the_file_is_taken() {
    isolated(
        "refuse::a_descriptor_that_only_names_the_file_is_taken",
        || {
            for (path, taken) in [
                ("/proc/self/ns/net", true),
                ("/proc/self/ns/user", false),
                ("/dev/null", false),
                ("/tmp", false),
            ] {
                let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
                let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap();
                assert_eq!(NetnsFd::new(fd).is_ok(), taken, "{path}");
            }
        },
    );
}

#[test]
fn a_name_in_use_is_refused_and_nothing_is_left() {
    isolated(
        "refuse::a_name_in_use_is_refused_and_nothing_is_left",
        || {
            for in_use_at_client in [true, false] {
                let mut node = Node::new();
                let (plan, client, endpoint) =
                    node.pair(key(1), &["10.1.0.1/32"], &["10.1.0.0/32"]);
                let (busy, name) = if in_use_at_client {
                    (client, "nsm-c")
                } else {
                    (endpoint, "nsm-e")
                };
                let netns = &node.pods[&busy];
                let names = (name.parse().unwrap(), "other".parse().unwrap());
                setup::veth(
                    node.executor.workers(),
                    (netns, &names.0),
                    (netns, &names.1),
                    1500,
                )
                .unwrap();
                let error = node.executor.apply(&plan, &node.pods).unwrap_err();
                let ApplyError::NameInUse { name: told, netns } = &error else {
                    panic!("{error:?}")
                };
                assert_eq!((told.as_str(), *netns), (name, Netns::Id(busy)));
                assert!(error.to_string().contains("is in use"), "{error}");
                for pod in [client, endpoint] {
                    assert!(
                        node.links(pod).iter().all(|link| !link.is_ours()),
                        "left behind"
                    );
                }
                node.executor.undo(&plan).unwrap();
                assert!(
                    node.names(busy).contains(name),
                    "undo touched somebody else's link"
                );
            }
        },
    );
}

#[test]
fn a_route_in_use_is_refused_and_nothing_is_left() {
    isolated(
        "refuse::a_route_in_use_is_refused_and_nothing_is_left",
        || {
            let mut node = Node::new();
            let (plan, client, endpoint) = node.pair(key(1), &["10.1.0.1/32"], &["10.1.0.0/32"]);
            let netns = &node.pods[&client];
            let (one, other) = ("eth0".parse().unwrap(), "eth1".parse().unwrap());
            setup::veth(
                node.executor.workers(),
                (netns, &one),
                (netns, &other),
                1500,
            )
            .unwrap();
            let route = move |own: &mut setup::Own| {
                own.set_route(&one, "10.1.0.0/32".parse().unwrap(), None)
            };
            setup::within(node.executor.workers(), netns, route).unwrap();
            let error = node.executor.apply(&plan, &node.pods).unwrap_err();
            assert!(matches!(error, ApplyError::RouteInUse { .. }), "{error:?}");
            for pod in [client, endpoint] {
                assert!(
                    node.links(pod)
                        .iter()
                        .all(|link| !link.up || !link.is_ours()),
                    "left in use"
                );
            }
            assert!(node.executor.reaper().wait_idle(LIMIT));
            assert!(node.names(endpoint).is_empty());
        },
    );
}

#[test]
fn a_missing_descriptor_is_named() {
    isolated("refuse::a_missing_descriptor_is_named", || {
        let mut node = Node::new();
        let (plan, ..) = node.pair(key(1), &["10.1.0.1/32"], &["10.1.0.0/32"]);
        let error = node.executor.apply(&plan, &BTreeMap::new()).unwrap_err();
        assert!(matches!(error, ApplyError::MissingNetns(_)), "{error:?}");
    });
}

#[test]
fn a_change_that_fails_puts_the_old_state_back() {
    isolated(
        "refuse::a_change_that_fails_puts_the_old_state_back",
        || {
            let mut node = Node::new();
            let (old, client, endpoint) = node.pair(key(1), &["10.1.0.1/32"], &["10.1.0.0/32"]);
            node.executor.apply(&old, &node.pods).unwrap();
            // The next hop of a route cannot be the interface's own address.
            let mut near = side(client, "nsm-c", 1, &["10.1.0.9/32"], &["10.1.0.0/32"]);
            near.routes.push((
                "192.0.2.0/24".parse().unwrap(),
                Some("10.1.0.9".parse().unwrap()),
            ));
            let far = side(endpoint, "nsm-e", 2, &["10.1.0.0/32"], &["10.1.0.1/32"]);
            let new = joined(key(1), Side::Kernel(near), Side::Kernel(far));
            node.executor
                .change(&diff(&old, &new), &node.pods)
                .unwrap_err();
            exchange(
                &node.udp(client, "10.1.0.1"),
                &node.udp(endpoint, "10.1.0.0"),
            );
        },
    );
}

/// A link in the group of closed ones may be deleted at any moment, and its routes with it: also
/// between the kernel's refusal of a route and the look at what stands in its way.
#[test]
fn a_route_that_leaves_with_a_closed_link_is_not_in_use() {
    isolated(
        "refuse::a_route_that_leaves_with_a_closed_link_is_not_in_use",
        || {
            let mut node = Node::new();
            let (plan, client, _) = node.pair(key(1), &["10.1.0.1/32"], &["10.1.0.0/32"]);
            let closing = format!(
                "link add zz0 type veth peer name zz1\nlink set zz1 up\n\
                 link set zz0 group {REAP_GROUP} up\nroute append 10.1.0.0/32 dev zz0\nlink del zz0\n"
            );
            let batch = memfd_create("batch", MemfdFlags::empty()).unwrap();
            write(&batch, closing.repeat(CLOSED).as_bytes()).unwrap();
            let path = format!("/proc/{}/fd/{}", std::process::id(), batch.as_raw_fd());
            let other = Node {
                executor: Executor::new("other").unwrap(),
                pods: node.pods.clone(),
            };
            std::thread::scope(|scope| {
                let closing = scope.spawn(|| other.ip(client, &format!("-batch {path}")));
                while !closing.is_finished() {
                    node.executor.apply(&plan, &node.pods).unwrap();
                    node.executor.undo(&plan).unwrap();
                    // Its links' indices are free again.
                    assert!(node.executor.reaper().wait_idle(LIMIT));
                }
            });
        },
    );
}
