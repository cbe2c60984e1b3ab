//! The allocator against a plain list of who was told what.

use proptest::prelude::*;

use super::super::*;
use super::{got, ipam};

#[derive(Clone, Debug)]
enum Step {
    Allocate(u8, Vec<(u8, u8)>, Vec<(u8, u8)>),
    Confirm(u8),
    Undo(u8),
    Free(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let address = || (0u8..20, 0u8..2);
    let list = |max| prop::collection::vec(address(), 0..max);
    prop_oneof![
        4 => (0u8..8, list(4), list(3)).prop_map(|(id, wanted, not)| Step::Allocate(id, wanted, not)),
        2 => (0u8..8).prop_map(Step::Confirm),
        1 => (0u8..8).prop_map(Step::Undo),
        2 => (0u8..8).prop_map(Step::Free),
    ]
}

fn text((low, family): (u8, u8)) -> String {
    if family == 0 {
        format!("10.0.0.{low}/32")
    } else {
        format!("fd00::{low:x}/128")
    }
}

proptest! {
    /// Against a plain list of who was told what: no address is held twice, an error changes
    /// nothing, and all is free when all are gone.
    #[test]
    fn one_address_one_connection(steps in prop::collection::vec(step(), 1..60)) {
        let mut ipam = ipam("[10.0.0.0/29,10.0.0.16/31],[fd00::/125]");
        // What each connection's interfaces may carry: the last answer, and the one on its way.
        let mut live: BTreeMap<u8, (Option<Vec<Pair>>, Vec<Pair>)> = BTreeMap::new();
        for step in steps {
            let before = ipam.clone();
            match step {
                Step::Allocate(id, wanted, not) => {
                    let context = IPContext {
                        src_ip_addrs: wanted.iter().map(|a| text(*a)).collect(),
                        dst_ip_addrs: wanted.iter().rev().map(|a| text(*a)).collect(),
                        excluded_prefixes: not.iter().map(|a| text(*a)).collect(),
                        ..Default::default()
                    };
                    match ipam.allocate(&id.to_string(), &context) {
                        Ok(assigned) => {
                            for pair in &assigned.pairs {
                                prop_assert!(!context.excluded_prefixes.contains(&IpNet::from(pair.src).to_string()));
                                prop_assert!(!context.excluded_prefixes.contains(&IpNet::from(pair.dst).to_string()));
                            }
                            live.entry(id).or_default().1 = assigned.pairs;
                        }
                        Err(_) => {
                            prop_assert_eq!(ipam.in_use(), before.in_use());
                            prop_assert_eq!(ipam.pairs(&id.to_string()), before.pairs(&id.to_string()));
                        }
                    }
                }
                Step::Confirm(id) => {
                    ipam.confirm(&id.to_string());
                    if let Some((answered, current)) = live.get_mut(&id) {
                        *answered = Some(current.clone());
                    }
                }
                Step::Undo(id) => {
                    ipam.undo(&id.to_string());
                    if let Some((answered, current)) = live.get_mut(&id) {
                        match answered {
                            Some(answered) => current.clone_from(answered),
                            None => drop(live.remove(&id)),
                        }
                    }
                }
                Step::Free(id) => prop_assert_eq!(ipam.free(&id.to_string()), live.remove(&id).is_some()),
            }
            let mut all = BTreeSet::new();
            for (answered, current) in live.values() {
                let own: BTreeSet<_> =
                    answered.iter().flatten().chain(current).flat_map(|pair| [pair.src, pair.dst]).collect();
                for address in own {
                    prop_assert!(all.insert(address), "{address} is held twice");
                }
            }
            prop_assert_eq!(ipam.in_use(), all.len() as u128);
            prop_assert_eq!(ipam.leases(), live.len());
        }
        for id in live.keys() {
            ipam.free(&id.to_string());
        }
        prop_assert_eq!(ipam.in_use(), 0);
        prop_assert_eq!(got(&ipam.allocate("x", &IPContext::default())), "10.0.0.0<10.0.0.1 fd00::<fd00::1");
    }
}
