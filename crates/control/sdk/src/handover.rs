//! What is left of an endpoint's addresses when a connection has moved to another one.

use nsm_api::connectioncontext::IPContext;

/// The addresses and routes of the new endpoint alone, if it added its own to those of the one
/// before: `None` if it took those over, or gave others in their place.
///
/// Upstream's pools add to what a request brings (sdk `ipam/point2pointipam/server.go`), so that a
/// client that moves keeps addresses that nobody answers for (deployments-k8s issue 9888).
pub(crate) fn without(before: &IPContext, after: &IPContext) -> Option<IPContext> {
    let kept = holds(&after.src_ip_addrs, &before.src_ip_addrs)
        && holds(&after.dst_ip_addrs, &before.dst_ip_addrs);
    let more = after.src_ip_addrs.len() > before.src_ip_addrs.len()
        || after.dst_ip_addrs.len() > before.dst_ip_addrs.len();
    if before.src_ip_addrs.is_empty() || !kept || !more {
        return None;
    }
    let mut own = after.clone();
    own.src_ip_addrs
        .retain(|one| !before.src_ip_addrs.contains(one));
    own.dst_ip_addrs
        .retain(|one| !before.dst_ip_addrs.contains(one));
    own.src_routes
        .retain(|one| !before.src_routes.contains(one));
    own.dst_routes
        .retain(|one| !before.dst_routes.contains(one));
    Some(own)
}

fn holds(all: &[String], some: &[String]) -> bool {
    some.iter().all(|one| all.contains(one))
}

#[cfg(test)]
mod tests {
    use nsm_api::connectioncontext::Route;

    use super::*;

    fn context(own: &[&str], far: &[&str]) -> IPContext {
        let list = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        let routes = |all: &[&str]| {
            let route = |one: &&str| Route {
                prefix: (*one).to_owned(),
                ..Default::default()
            };
            all.iter().map(route).collect()
        };
        IPContext {
            src_ip_addrs: list(own),
            dst_ip_addrs: list(far),
            src_routes: routes(far),
            dst_routes: routes(own),
            ..Default::default()
        }
    }

    /// Before, after, and what is asked for then: own and far addresses.
    type Row = (
        (&'static [&'static str], &'static [&'static str]),
        (&'static [&'static str], &'static [&'static str]),
        Option<(&'static [&'static str], &'static [&'static str])>,
    );

    const ROWS: &[Row] = &[
        // Taken over.
        ((&["a"], &["b"]), (&["a"], &["b"]), None),
        // In their place.
        ((&["a"], &["b"]), (&["c"], &["d"]), None),
        // Added.
        (
            (&["a"], &["b"]),
            (&["a", "c"], &["b", "d"]),
            Some((&["c"], &["d"])),
        ),
        // None before.
        ((&[], &[]), (&["c"], &["d"]), None),
        // One of two families is new.
        ((&["a", "x"], &["b"]), (&["a", "c"], &["b"]), None),
    ];

    #[test]
    fn the_addresses_of_the_endpoint_before_go() {
        for (before, after, own) in ROWS {
            let found = without(&context(before.0, before.1), &context(after.0, after.1));
            assert_eq!(
                found,
                own.map(|own| context(own.0, own.1)),
                "{before:?} {after:?}"
            );
        }
    }
}
