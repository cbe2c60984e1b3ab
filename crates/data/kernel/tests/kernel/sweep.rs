//! What nobody owns goes, and nothing else.

use std::collections::BTreeSet;

use nsm_kernel::Executor;
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
            // Name, group, alias; whether it is anybody's.
            let rows = [
                ("eth0", 0, "", true),
                ("eth1", 7, "uplink", true),
                ("half", GROUP, "", false),
                ("closed", REAP_GROUP, "", false),
                ("unknown", GROUP, forged.as_str(), false),
                ("unknown2", 0, forged.as_str(), false),
                ("forged", GROUP, ours.as_str(), false),
                ("forged2", 0, ours.as_str(), false),
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
            node.executor = Executor::new().unwrap();
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
