//! What nobody owns goes, and nothing else.

use std::collections::BTreeSet;

use nsm_kernel::{Adopted, Claim, Executor, Mark};
use nsm_plan::{GROUP, REAP_GROUP, Role, alias};

use crate::support::{Node, exchange, isolated, key};

#[test]
fn what_nobody_owns_is_swept_and_nothing_else_is_touched() {
    isolated(
        "sweep::what_nobody_owns_is_swept_and_nothing_else_is_touched",
        || {
            let mut node = Node::new();
            let (plan, client, endpoint) = node.pair(key(1), &["10.1.0.1/32"], &["10.1.0.0/32"]);
            let (other, _, third) = node.pair(key(2), &["10.2.0.1/32"], &["10.2.0.0/32"]);
            let mut journal = node.executor.apply(&plan, &node.pods).unwrap().namespaces;
            journal.extend(node.executor.apply(&other, &node.pods).unwrap().namespaces);
            let (ours, forged) = (alias(key(1), Role::Client), alias(key(9), Role::Client));
            let (mine, theirs) = (Mark::of("forwarder"), Mark::of("another"));
            let marked = |alias: &str, mark| format!("{alias}:{mark}");
            let (forged_mine, forged_theirs) = (marked(&forged, mine), marked(&forged, theirs));
            let (ours_mine, ours_theirs) = (marked(&ours, mine), marked(&ours, theirs));
            // Name, group, alias; whether it is anybody's.
            let rows = [
                ("eth0", 0, "", true),
                ("eth1", 7, "uplink", true),
                ("half", GROUP, "", false),
                ("closed", REAP_GROUP, "", false),
                ("unknown", GROUP, forged_mine.as_str(), false),
                ("unknown2", 0, forged_mine.as_str(), false),
                ("unmarked", GROUP, forged.as_str(), true),
                ("theirs", GROUP, forged_theirs.as_str(), true),
                ("theirs2", 0, forged_theirs.as_str(), true),
                ("forged", GROUP, ours.as_str(), false),
                ("forged2", 0, ours_mine.as_str(), false),
                ("theirs3", GROUP, ours_theirs.as_str(), true),
            ];
            for pod in [client, third] {
                for (name, group, alias, _) in rows {
                    node.ip(
                        pod,
                        &format!("link add {name} group {group} type veth peer name p-{name}"),
                    );
                    if !alias.is_empty() {
                        node.ip(pod, &format!("link set {name} alias {alias}"));
                    }
                }
            }
            let known = BTreeSet::from([key(1), key(2)]);
            let keep = |own: &'static str| {
                let rows = rows.iter().filter(|(.., somebodys)| *somebodys);
                let pairs = rows.flat_map(|(name, ..)| [(*name).to_owned(), format!("p-{name}")]);
                pairs.chain([own.to_owned()]).collect::<BTreeSet<_>>()
            };
            assert_eq!(node.executor.sweep(&known).unwrap(), 12);
            assert_eq!(node.names(client), keep("nsm-c"));
            assert_eq!(node.names(third), keep("nsm-e"));
            exchange(
                &node.udp(client, "10.1.0.1"),
                &node.udp(endpoint, "10.1.0.0"),
            );
            assert_eq!(node.executor.sweep(&known).unwrap(), 0);
            // A process that has adopted nothing yet trusts its journal's keys.
            node.executor = Executor::new("forwarder").unwrap();
            assert_eq!(node.executor.sweep(&known).unwrap(), 0);
            node.executor.adopt(&plan, &journal).unwrap();
            assert!(node.executor.sweep(&BTreeSet::new()).unwrap() > 0);
            assert_eq!(node.names(client), keep("nsm-c"));
            assert_eq!(
                node.names(third),
                keep("nsm-e")
                    .into_iter()
                    .filter(|name| name != "nsm-e")
                    .collect()
            );
        },
    );
}

/// The other one's links are up, retired, half-born; both know nothing of each other.
#[test]
fn two_forwarders_of_one_node_sweep_their_own() {
    isolated("sweep::two_forwarders_of_one_node_sweep_their_own", || {
        let mut node = Node::new();
        let other = Executor::new("another").unwrap();
        let (plan, client, endpoint) = node.pair(key(1), &["10.1.0.1/32"], &["10.1.0.0/32"]);
        let (theirs, _, third) = node.pair(key(2), &["10.2.0.1/32"], &["10.2.0.0/32"]);
        node.executor.apply(&plan, &node.pods).unwrap();
        let journal = other.apply(&theirs, &node.pods).unwrap().namespaces;
        let indices = || {
            let pods = [client, endpoint, third];
            pods.map(|pod| {
                node.links(pod)
                    .iter()
                    .map(|link| link.index)
                    .collect::<Vec<_>>()
            })
        };
        let before = indices();
        let nothing = BTreeSet::new();
        // The last one's process is not the one that applied it: it knows no plan at all.
        let fresh = Executor::new("a third").unwrap();
        for executor in [&node.executor, &other, &fresh] {
            assert_eq!(executor.sweep(&nothing).unwrap(), 0);
        }
        assert_eq!(indices(), before);
        exchange(
            &node.udp(client, "10.1.0.1"),
            &node.udp(endpoint, "10.1.0.0"),
        );
        // One that is started again under its name and does not know what it had made does.
        drop(other);
        let again = Executor::new("another").unwrap();
        assert_eq!(again.sweep(&BTreeSet::from([key(2)])).unwrap(), 0);
        assert!(again.sweep(&nothing).unwrap() > 0);
        assert!(node.links(third).is_empty());
        assert_eq!(indices()[..2], before[..2]);
        again.adopt(&theirs, &journal).unwrap();
        assert_eq!(node.links(third).len(), 1, "made again");
    });
}

/// Links of a forwarder of the version before have no mark: it is put on them, once.
#[test]
fn what_a_version_before_made_is_marked() {
    isolated("sweep::what_a_version_before_made_is_marked", || {
        let mut node = Node::new();
        let (plan, client, endpoint) = node.pair(key(1), &["10.1.0.1/32"], &["10.1.0.0/32"]);
        let journal = node.executor.apply(&plan, &node.pods).unwrap().namespaces;
        for (pod, name, role) in [
            (client, "nsm-c", Role::Client),
            (endpoint, "nsm-e", Role::Endpoint),
        ] {
            let alias = alias(key(1), role);
            node.ip(pod, &format!("link set {name} alias {alias}"));
        }
        let other = Executor::new("another").unwrap();
        assert_eq!(other.sweep(&BTreeSet::new()).unwrap(), 0);
        node.executor = Executor::new("forwarder").unwrap();
        let before = node.links(client)[0].index;
        let Adopted::Repaired(told) = node.executor.adopt(&plan, &journal).unwrap() else {
            panic!("its links have no mark");
        };
        assert!(
            told.iter()
                .all(|row| row.ends_with(": was without its forwarder's mark")),
            "{told:?}"
        );
        assert_eq!(node.links(client)[0].index, before);
        assert_eq!(node.links(client)[0].mark, Some(Mark::of("forwarder")));
        let again = node.executor.adopt(&plan, &journal).unwrap();
        assert_eq!(again, Adopted::AsItWas);
    });
}

/// A name is had once in a network namespace, and again when its process is gone.
#[test]
fn a_name_is_claimed_once() {
    isolated("sweep::a_name_is_claimed_once", || {
        let first = Claim::take("forwarder").unwrap();
        let _another = Claim::take("another").unwrap();
        let error = Claim::take("forwarder").unwrap_err().to_string();
        assert!(
            error.contains("another forwarder named \"forwarder\" runs in this node"),
            "{error}"
        );
        let ending = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(200));
            drop(first);
        });
        Claim::take("forwarder").unwrap();
        ending.join().unwrap();
    });
}
