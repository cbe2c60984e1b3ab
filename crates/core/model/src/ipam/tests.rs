use proptest::prelude::*;

use super::*;

fn ipam(groups: &str) -> PointToPoint {
    PointToPoint::new(&parse_groups(groups).unwrap()).unwrap()
}

/// `src=..;dst=..;not=..` with commas inside.
fn context(text: &str) -> IPContext {
    let mut context = IPContext::default();
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (key, values) = part.split_once('=').unwrap();
        let values = values.split(',').map(str::to_owned).collect();
        match key {
            "src" => context.src_ip_addrs = values,
            "dst" => context.dst_ip_addrs = values,
            "not" => context.excluded_prefixes = values,
            other => panic!("{other}"),
        }
    }
    context
}

fn got(result: &Result<Assigned, IpamError>) -> String {
    match result {
        Ok(assigned) => {
            let pairs: Vec<_> = assigned
                .pairs
                .iter()
                .map(|p| format!("{}<{}", p.dst, p.src))
                .collect();
            pairs.join(" ")
        }
        Err(error) => error.to_string(),
    }
}

/// groups | steps; a step is `id` or `id:wanted`, `-id` frees, `!id` undoes, `+id` confirms;
/// after each allocation ` -> dst<src ...`.
const STEPS: &[(&str, &[&str])] = &[
    (
        "172.16.1.100/31",
        &[
            "a -> 172.16.1.100<172.16.1.101",
            "a -> 172.16.1.100<172.16.1.101",
        ],
    ),
    ("fd00::/127", &["a -> fd00::<fd00::1"]),
    (
        "10.0.0.0/30",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "b -> 10.0.0.2<10.0.0.3",
            "-a",
            "c -> 10.0.0.0<10.0.0.1",
        ],
    ),
    // One pair of each family at once; without brackets too.
    (
        "[10.0.0.0/24],[fd00::/64]",
        &["a -> 10.0.0.0<10.0.0.1 fd00::<fd00::1"],
    ),
    (
        "10.0.0.0/24,fd00::/64",
        &["a -> 10.0.0.0<10.0.0.1 fd00::<fd00::1"],
    ),
    // Alternatives in one group.
    (
        "[10.0.0.0/31,10.1.0.0/31]",
        &["a -> 10.0.0.0<10.0.0.1", "b -> 10.1.0.0<10.1.0.1"],
    ),
    // Exclusions are the client's own: the next one gets what they spared.
    (
        "10.0.0.0/29",
        &[
            "a:not=10.0.0.0/30 -> 10.0.0.4<10.0.0.5",
            "b -> 10.0.0.0<10.0.0.1",
        ],
    ),
    (
        "10.0.0.0/29",
        &["a:not=10.0.0.1,10.0.0.2/31 -> 10.0.0.0<10.0.0.4"],
    ),
    // A new exclusion that hits the pair gives another, and what it spares can be used again.
    (
        "10.0.0.0/29",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "+a",
            "a:not=10.0.0.0/32 -> 10.0.0.1<10.0.0.2",
            "+a",
            "b -> 10.0.0.0<10.0.0.3",
        ],
    ),
    (
        "10.0.0.0/29",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "+a",
            "a:not=10.0.0.6/32 -> 10.0.0.0<10.0.0.1",
        ],
    ),
    // Addresses asked for are kept if both are free.
    (
        "10.0.0.0/24",
        &[
            "a:src=10.0.0.9/32;dst=10.0.0.8/32 -> 10.0.0.8<10.0.0.9",
            "b -> 10.0.0.0<10.0.0.1",
        ],
    ),
    (
        "10.0.0.0/24",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "b:src=10.0.0.1/32;dst=10.0.0.8/32 -> 10.0.0.2<10.0.0.3",
        ],
    ),
    ("10.0.0.0/24", &["a:src=10.0.0.9/32 -> 10.0.0.0<10.0.0.1"]),
    (
        "10.0.0.0/24",
        &["a:src=10.0.0.9/32;dst=10.0.0.9/32 -> 10.0.0.0<10.0.0.1"],
    ),
    (
        "10.0.0.0/24",
        &["a:src=10.0.0.9;dst=10.0.0.8;not=10.0.0.8/31 -> 10.0.0.0<10.0.0.1"],
    ),
    (
        "10.0.0.0/24",
        &["a:src=192.168.0.1/32;dst=192.168.0.2/32 -> 10.0.0.0<10.0.0.1"],
    ),
    (
        "10.0.0.0/24,fd00::/64",
        &["a:src=10.0.0.9/32,fd00::9/128;dst=10.0.0.8/32 -> 10.0.0.8<10.0.0.9 fd00::<fd00::1"],
    ),
    // Used up: the message names the prefixes and their use, and nothing changed.
    (
        "[10.0.0.0/31,10.0.1.0/32]",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "b -> no two free addresses in 10.0.0.0/31, 10.0.1.0/32: 2 of 3 are in use, 0 prefixes are excluded by the client; add a prefix or wait until a client leaves",
            "-a",
            "b -> 10.0.0.0<10.0.0.1",
        ],
    ),
    // One family used up: the other one keeps nothing of the attempt.
    (
        "[10.0.0.0/24],[fd00::/127]",
        &[
            "a -> 10.0.0.0<10.0.0.1 fd00::<fd00::1",
            "b -> no two free addresses in fd00::/127: 2 of 2 are in use, 0 prefixes are excluded by the client; add a prefix or wait until a client leaves",
            "-a",
            "c -> 10.0.0.0<10.0.0.1 fd00::<fd00::1",
        ],
    ),
    (
        "10.0.0.0/24",
        &[
            "a:src=x -> ip_context.src_ip_addrs: \"x\" is not an address or prefix: write for example 172.16.1.0/24",
        ],
    ),
    // Upstream's bug 1: a refresh that fails downstream frees the pair but keeps the id's entry, so
    // that the next client and the old one hold the same addresses.
    (
        "10.0.0.0/24",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "+a",
            "a:not=10.0.0.0/30 -> 10.0.0.4<10.0.0.5",
            "b -> 10.0.0.2<10.0.0.3",
            "!a",
            "c -> 10.0.0.4<10.0.0.5",
            "a -> 10.0.0.0<10.0.0.1",
        ],
    ),
    (
        "10.0.0.0/24",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "!a",
            "b -> 10.0.0.0<10.0.0.1",
            "a -> 10.0.0.2<10.0.0.3",
        ],
    ),
    // Upstream's bug 2: taking a wanted source whose destination is in use leaks the source.
    (
        "10.0.0.0/30",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "b:src=10.0.0.3/32;dst=10.0.0.0/32 -> 10.0.0.2<10.0.0.3",
        ],
    ),
    // Upstream's bug 3: closing twice frees twice, so that two clients get one address.
    (
        "10.0.0.0/24",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "-a",
            "-a",
            "b -> 10.0.0.0<10.0.0.1",
            "-a",
            "c -> 10.0.0.2<10.0.0.3",
        ],
    ),
];

#[test]
fn tables_of_steps() {
    for (groups, steps) in STEPS {
        let mut ipam = ipam(groups);
        for step in *steps {
            match step.split_at(1) {
                ("-", id) => drop(ipam.free(id)),
                ("!", id) => ipam.undo(id),
                ("+", id) => ipam.confirm(id),
                _ => {
                    let (ask, expected) = step.split_once(" -> ").unwrap();
                    let (id, wanted) = ask.split_once(':').unwrap_or((ask, ""));
                    assert_eq!(
                        got(&ipam.allocate(id, &context(wanted))),
                        expected,
                        "{groups}: {steps:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn settings_that_are_refused() {
    for (groups, says) in [
        ("", "no prefix to assign addresses from"),
        ("[]", "no prefix to assign addresses from"),
        ("[10.0.0.0/24],[]", "no prefix"),
        (
            "10.0.0.0/33",
            "prefix: \"10.0.0.0/33\" is not an address or prefix",
        ),
        ("[10.0.0.0/24", "brackets do not match"),
        ("[10.0.0.0/24],", "brackets do not match"),
        ("[[10.0.0.0/24]]", "brackets do not match"),
        ("[10.0.0.0/24]x", "brackets do not match"),
        (
            "[10.0.0.0/24],[10.0.0.128/25]",
            "prefixes 10.0.0.0/24 and 10.0.0.128/25 overlap",
        ),
    ] {
        let error = parse_groups(groups)
            .and_then(|groups| PointToPoint::new(&groups))
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{groups}: {error}");
    }
}

#[test]
fn what_is_written() {
    let mut ipam = ipam("10.0.0.0/24,fd00::/64");
    let mut context = context("src=10.0.0.77/32,192.168.0.1/32;dst=fd00::5/128");
    let route = |prefix: &str| Route {
        prefix: prefix.to_owned(),
        ..Default::default()
    };
    context.src_routes = ["0.0.0.0/0", "10.0.0.76/32", "192.168.0.2/32", "10.0.0.0/24"]
        .map(route)
        .into();
    let assigned = ipam.allocate("a", &context).unwrap();
    let mut alone = context.clone();
    for _ in 0..2 {
        assigned.write(&mut context);
        assert_eq!(
            context.src_ip_addrs,
            ["192.168.0.1/32", "10.0.0.1/32", "fd00::1/128"]
        );
        assert_eq!(context.dst_ip_addrs, ["10.0.0.0/32", "fd00::/128"]);
        let routes = |routes: &[Route]| routes.iter().map(|r| r.prefix.clone()).collect::<Vec<_>>();
        assert_eq!(
            routes(&context.src_routes),
            [
                "0.0.0.0/0",
                "192.168.0.2/32",
                "10.0.0.0/24",
                "10.0.0.0/32",
                "fd00::/128"
            ]
        );
        assert_eq!(routes(&context.dst_routes), ["10.0.0.1/32", "fd00::1/128"]);
        assigned.write_alone(&mut alone);
        assert_eq!(alone.src_ip_addrs, ["10.0.0.1/32", "fd00::1/128"]);
        assert_eq!(
            routes(&alone.src_routes),
            ["0.0.0.0/0", "10.0.0.0/24", "10.0.0.0/32", "fd00::/128"]
        );
    }
    // What was written is what the next Request asks to keep.
    ipam.free("a");
    assert_eq!(ipam.allocate("b", &alone).unwrap().pairs, assigned.pairs);
}

use nsm_api::connectioncontext::Route;

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
