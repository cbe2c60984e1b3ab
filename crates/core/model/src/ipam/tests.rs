//! Cases of [`super`]: a table for each rule of `ipam`.

mod model;
mod steps;

use nsm_api::connectioncontext::Route;

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

#[test]
fn tables_of_steps() {
    for (groups, steps) in steps::STEPS {
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
fn lists_have_a_limit() {
    let addresses = vec!["10.0.0.1/32"; wanted::MAX_WANTED + 1].join(",");
    let error = ipam("10.0.0.0/24")
        .allocate("a", &context(&format!("src={addresses}")))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "ip_context.src_ip_addrs has 65 entries, at most 64 are read"
    );
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
