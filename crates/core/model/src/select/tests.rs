//! Cases of [`super`]: a table for each rule of `select`.

use std::collections::BTreeMap;

use nsm_api::registry::{Destination, Match, Metadata, NetworkServiceLabels};
use proptest::prelude::*;

use super::*;

fn labels(text: &str) -> Labels {
    let pair = |word: &str| {
        word.split_once('=')
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
    };
    text.split(',').filter_map(pair).collect()
}

/// `name labels`: an endpoint of the service `svc`.
fn endpoint(text: &str) -> NetworkServiceEndpoint {
    let (name, words) = text.split_once(' ').unwrap_or((text, ""));
    let of_service = NetworkServiceLabels {
        labels: labels(words),
        ..Default::default()
    };
    NetworkServiceEndpoint {
        name: name.to_owned(),
        network_service_names: vec!["svc".to_owned()],
        network_service_labels: [("svc".to_owned(), of_service)].into(),
        ..Default::default()
    }
}

fn endpoints(texts: &[&str]) -> Vec<NetworkServiceEndpoint> {
    texts.iter().map(|text| endpoint(text)).collect()
}

/// `source > route*weight > route ; flags`, one match an entry; flags `fall` and `meta[=labels]`.
fn service(matches: &[&str]) -> NetworkService {
    let one = |text: &&str| {
        let (rule, flags) = text.split_once(';').unwrap_or((text, ""));
        let mut parts = rule.split('>').map(str::trim);
        let source_selector = labels(parts.next().unwrap());
        let routes = parts.map(|route| {
            let (selector, weight) = route.split_once('*').unwrap_or((route, "0"));
            let weight = weight.parse().unwrap();
            Destination {
                destination_selector: labels(selector),
                weight,
                ..Default::default()
            }
        });
        let mut rule = Match {
            source_selector,
            routes: routes.collect(),
            ..Default::default()
        };
        for flag in flags.split_whitespace() {
            match flag.split_once(':').unwrap_or((flag, "")) {
                ("fall", _) => rule.fallthrough = true,
                ("meta", words) => {
                    rule.metadata = Metadata {
                        labels: labels(words),
                        ..Default::default()
                    }
                    .into()
                }
                other => panic!("{other:?}"),
            }
        }
        rule
    };
    NetworkService {
        name: "svc".to_owned(),
        matches: matches.iter().map(one).collect(),
        ..Default::default()
    }
}

/// Names and weights that are not 1, in the order of names.
fn names(found: &[Candidate<'_>]) -> String {
    let mut words: Vec<_> = found
        .iter()
        .map(|c| match c.weight {
            1 => c.endpoint.name.clone(),
            weight => format!("{}*{weight}", c.endpoint.name),
        })
        .collect();
    words.sort();
    words.join(" ")
}

#[test]
fn every_rule() {
    let all = endpoints(&["a app=fw,zone=1", "b app=fw", "c app=vpn", "d"]);
    let rows: &[(&str, &[&str], &str, &str)] = &[
        ("1 no matches: all", &[], "", "a b c d"),
        (
            "2 source does not fit: next",
            &["x=1 > app=vpn", "> app=fw"],
            "",
            "a b",
        ),
        ("2 source fits", &["x=1 > app=vpn", "> app=fw"], "x=1", "c"),
        ("3 empty destination: all", &["> "], "", "a b c d"),
        ("3 two routes sum up", &["> app=fw > zone=1"], "", "a*2 b"),
        (
            "3 weights sum up, 0 counts as 1",
            &["> app=fw*5 > zone=1 > app=vpn*3"],
            "",
            "a*6 b*5 c*3",
        ),
        ("4 fallthrough", &["> app=ids ; fall", "> app=vpn"], "", "c"),
        (
            "4 found: no fallthrough",
            &["> app=fw", "> app=vpn"],
            "",
            "a b",
        ),
        (
            "4 found, and fallthrough",
            &["> app=fw ; fall", "> app=vpn"],
            "",
            "a b c",
        ),
        (
            "5 metadata without routes: all",
            &["; meta:p2p=true"],
            "",
            "a b c d",
        ),
        (
            "5 metadata and fallthrough: next",
            &["; meta fall", "> app=vpn"],
            "",
            "c",
        ),
        ("6 nothing found", &["> app=ids", "> app=vpn"], "", ""),
        ("6 no routes, no metadata: nobody", &[""], "", ""),
        ("7 no match applies", &["x=1 > app=fw"], "", ""),
        ("fallthrough at the end", &["> app=ids ; fall"], "", ""),
        ("template", &["> app={{ .want }}"], "want=vpn", "c"),
        (
            "template in the source",
            &["who={{ .podName }} > app=vpn"],
            "who=p,podName=p",
            "c",
        ),
    ];
    for (rule, matches, of_connection, expected) in rows {
        let found = candidates(
            &labels(of_connection),
            &service(matches),
            &all,
            0,
            b"key",
            &[],
        );
        assert_eq!(names(&found), *expected, "{rule}");
    }
}

#[test]
fn the_expired_come_after_the_others() {
    type Row<'a> = (
        &'a [&'a str],
        &'a [(&'a str, i64)],
        &'a [&'a str],
        i64,
        &'a str,
    );
    let preferring: &[&str] = &["> app=fw ; fall", "> app=vpn"];
    let two: &[&str] = &["a app=fw", "b app=vpn"];
    let rows: &[Row<'_>] = &[
        (two, &[("a", 100)], preferring, 99, "a b"),
        (two, &[("a", 100)], preferring, 100, "b a"),
        (two, &[("a", 100), ("b", 100)], preferring, 100, "a b"),
        (two, &[("b", 100)], preferring, 100, "a b"),
        (two, &[("a", 100)], &["> app=fw"], 100, "a"),
        (two, &[("a", 100)], &[], 100, "b a"),
        (two, &[("b", 100)], &[], 100, "a b"),
        (two, &[("a", 100), ("b", 100)], &["> app=ids"], 100, ""),
    ];
    for (all, ends, matches, now, expected) in rows {
        let mut all = endpoints(all);
        for endpoint in &mut all {
            let end = ends.iter().find(|(name, _)| *name == endpoint.name);
            endpoint.expiration_time = end.map(|(_, at)| buffa_time(*at)).into();
        }
        let found = candidates(&Labels::new(), &service(matches), &all, *now, b"key", &[]);
        let found: Vec<_> = found.iter().map(|c| c.endpoint.name.as_str()).collect();
        assert_eq!(
            found.join(" "),
            *expected,
            "{ends:?} by {matches:?} at {now}"
        );
    }
    let mut all = endpoints(two);
    all[0].expiration_time = buffa_time(100).into();
    let failed = ["b".to_owned()];
    let found = candidates(&Labels::new(), &service(&[]), &all, 100, b"key", &failed);
    let found: Vec<_> = found.iter().map(|c| c.endpoint.name.as_str()).collect();
    assert_eq!(found, ["a", "b"], "what has failed is last");
}

#[test]
fn who_fails_is_fallen_through() {
    let all = endpoints(&["a app=fw", "b app=vpn", "c app=fw"]);
    let preferring = service(&["> app=fw ; fall", "> app=vpn", "> app=fw"]);
    for (failed, expected) in [
        (&[][..], ["a", "c", "b"]),
        (&["a"], ["c", "b", "a"]),
        (&["a", "c"], ["b", "a", "c"]),
    ] {
        let failed: Vec<_> = failed.iter().map(ToString::to_string).collect();
        let found = candidates(&Labels::new(), &preferring, &all, 0, b"k", &failed);
        let found: Vec<_> = found.iter().map(|c| c.endpoint.name.as_str()).collect();
        assert_eq!(found, expected, "{failed:?}");
    }
}

fn buffa_time(seconds: i64) -> buffa_types::google::protobuf::Timestamp {
    buffa_types::google::protobuf::Timestamp {
        seconds,
        ..Default::default()
    }
}

#[test]
fn the_failed_come_last_and_the_order_is_stable() {
    let all = endpoints(&["a", "b", "c", "d"]);
    let service = service(&[]);
    let order = |failed: &[&str]| {
        let failed: Vec<_> = failed.iter().map(ToString::to_string).collect();
        let found = candidates(&Labels::new(), &service, &all, 0, b"conn", &failed);
        found
            .iter()
            .map(|c| c.endpoint.name.clone())
            .collect::<Vec<_>>()
    };
    let first = order(&[]);
    assert_eq!(order(&[]), first);
    let (failed, rest) = first.split_first().unwrap();
    assert_eq!(
        order(&[failed]),
        [rest, std::slice::from_ref(failed)].concat()
    );
}

#[test]
fn shares_follow_weights() {
    let all = endpoints(&["a x=1", "b x=2", "c x=3"]);
    let service = service(&["> x=1*1 > x=2*3 > x=3*6"]);
    let mut shares = BTreeMap::new();
    for key in 0u32..10_000 {
        let found = candidates(&Labels::new(), &service, &all, 0, &key.to_be_bytes(), &[]);
        *shares.entry(found[0].endpoint.name.clone()).or_insert(0i32) += 1;
    }
    // Five standard deviations of a share of 60 % in 10,000 draws are 245.
    for (name, expected) in [("a", 1_000), ("b", 3_000), ("c", 6_000)] {
        assert!((shares[name] - expected).abs() < 245, "{shares:?}");
    }
}

proptest! {
    #[test]
    fn one_that_leaves_moves_only_its_own(count in 2usize..12, gone in 0usize..12, keys in prop::collection::vec(any::<u64>(), 50)) {
        let all: Vec<_> = (0..count).map(|i| endpoint(&format!("e{i} x={}", i % 3))).collect();
        let service = service(&["> x=0*4 > x=1*2 > x=2"]);
        let mut fewer = all.clone();
        let gone = fewer.remove(gone % count).name;
        for key in keys {
            let order = |of: &[NetworkServiceEndpoint]| -> Vec<String> {
                let found = candidates(&Labels::new(), &service, of, 0, &key.to_be_bytes(), &[]);
                found.iter().map(|c| c.endpoint.name.clone()).collect()
            };
            let mut before = order(&all);
            before.retain(|name| *name != gone);
            prop_assert_eq!(before, order(&fewer));
        }
    }
}

#[test]
fn a_service_without_a_word_for_a_connection() {
    let rows: &[(&str, &[&str], &str, bool)] = &[
        ("no matches", &[], "x=1", true),
        ("any source", &["> app=fw"], "", true),
        ("its source", &["x=1 > app=fw"], "x=1", true),
        (
            "another source",
            &["x=1 > app=fw", "x=2 > app=fw"],
            "x=3",
            false,
        ),
    ];
    for (rule, matches, of_connection, expected) in rows {
        let found = applies(&labels(of_connection), &service(matches));
        assert_eq!(found, *expected, "{rule}");
    }
}

#[test]
fn forwarder_choice() {
    let all = endpoints(&[
        "plain p2p=true",
        "sriov sriov=true,p2p=true",
        "vlan vlan=true",
    ]);
    let rows: &[(&str, &[&str], &str, &str)] = &[
        ("no matches: all", &[], "", "plain sriov vlan"),
        ("default labels", &["> app=fw"], "", "plain sriov"),
        ("metadata", &["; meta:vlan=true"], "", "vlan"),
        ("metadata without labels", &["; meta"], "", "plain sriov"),
        (
            "source",
            &["x=1 ; meta:vlan=true", "; meta:sriov=true"],
            "",
            "sriov",
        ),
        (
            "fallthrough",
            &["; meta:x=1 fall", "; meta:vlan=true"],
            "",
            "vlan",
        ),
        ("found nothing", &["; meta:x=1", "; meta:vlan=true"], "", ""),
        ("no match applies", &["x=1 ; meta:vlan=true"], "", ""),
    ];
    for (rule, matches, of_connection, expected) in rows {
        let found = forwarders(&labels(of_connection), &service(matches), &all, "svc");
        let found: Vec<_> = found.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(found.join(" "), *expected, "{rule}");
    }
}
