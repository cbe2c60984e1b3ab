//! Which connections a selector names (api/pkg/api/networkservice/connection_helpers.go).

use nsm_api::connection::{Connection, MonitorScopeSelector, PathSegment};

/// Whether a selector names a connection.
///
/// Its services are names, none meaning any. Its segments are a contiguous run of the connection's
/// path, compared by name, id and token, where empty means any.
#[must_use]
pub fn matches(selector: &MonitorScopeSelector, connection: &Connection) -> bool {
    let services = &selector.network_services;
    if !services.is_empty() && !services.contains(&connection.network_service) {
        return false;
    }
    let run = &selector.path_segments;
    // A run of no segments is part of every path, also of an empty one.
    run.is_empty()
        || connection
            .path
            .path_segments
            .windows(run.len())
            .any(|part| {
                run.iter()
                    .zip(part)
                    .all(|(wanted, found)| fits(wanted, found))
            })
}

fn fits(wanted: &PathSegment, found: &PathSegment) -> bool {
    let same = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
    same(&wanted.name, &found.name)
        && same(&wanted.id, &found.id)
        && same(&wanted.token, &found.token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nsm_api::connection::Path;

    fn segments(text: &str) -> Vec<PathSegment> {
        let one = |text: &str| {
            let mut parts = text.split('/').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            PathSegment {
                name: next(),
                id: next(),
                token: next(),
                ..PathSegment::default()
            }
        };
        text.split_whitespace().map(one).collect()
    }

    #[test]
    fn runs_and_services() {
        let path = "nsc/1/t1 mgr/2/t2 fwd/3/t3 nse/4/t4";
        for (path, service, run, services, expected) in [
            (path, "vpn", "", "", true),
            ("", "vpn", "", "", true),
            ("", "vpn", "nsc", "", false),
            (path, "vpn", "nsc/1/t1", "", true),
            (path, "vpn", "mgr/2 fwd/3", "", true),
            (path, "vpn", "mgr/2 nse/4", "", false),
            (path, "vpn", "fwd/3 mgr/2", "", false),
            (path, "vpn", "/2", "", true),
            (path, "vpn", "//t3", "", true),
            (path, "vpn", "mgr/9", "", false),
            (path, "vpn", "/ / / /", "", true),
            (path, "vpn", "/ / / / /", "", false),
            (path, "vpn", "nsc/1/t1 mgr/2/t2 fwd/3/t3 nse/4/t4", "", true),
            (path, "vpn", "", "vpn", true),
            (path, "vpn", "", "fw vpn", true),
            (path, "vpn", "", "fw", false),
            (path, "vpn", "", "vpn2", false),
            (path, "vpn", "nsc/1", "fw", false),
            (path, "vpn", "nsc/2", "vpn", false),
        ] {
            let path = Path {
                path_segments: segments(path),
                ..Path::default()
            };
            let connection = Connection {
                network_service: service.to_owned(),
                path: buffa::MessageField::some(path),
                ..Connection::default()
            };
            let selector = MonitorScopeSelector {
                path_segments: segments(run),
                network_services: services.split_whitespace().map(str::to_owned).collect(),
                ..MonitorScopeSelector::default()
            };
            assert_eq!(
                matches(&selector, &connection),
                expected,
                "{run:?} {services:?}"
            );
        }
    }
}
