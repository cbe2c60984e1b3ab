//! Who may register what, what is found, and what ends.

mod common;

use std::time::Duration;

use common::{Manual, endpoint, open, query, service, service_of};
use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::{Code, Endpoints, Services};

const ADMIN: &str = "spiffe://nsm/admin";
const A: &str = "spiffe://nsm/a";
const B: &str = "spiffe://nsm/b";

#[tokio::test]
async fn services_change_by_rule() {
    // (what is stored, what comes, the answer's payload and matches or the code of the refusal)
    type Row<'a> = (
        (&'a str, &'a str, usize),
        (&'a str, &'a str, usize),
        Result<(&'a str, usize), Code>,
    );
    let rows: &[Row<'_>] = &[
        // An endpoint's bare service never changes an operator's, nor another endpoint's.
        ((ADMIN, "IP", 2), (A, "IP", 0), Ok(("IP", 2))),
        ((ADMIN, "IP", 2), (A, "", 0), Ok(("IP", 2))),
        ((ADMIN, "IP", 2), (ADMIN, "IP", 0), Ok(("IP", 2))),
        (
            (ADMIN, "ETHERNET", 2),
            (A, "IP", 0),
            Err(Code::FailedPrecondition),
        ),
        ((A, "IP", 0), (B, "IP", 0), Ok(("IP", 0))),
        (
            (A, "IP", 0),
            (B, "ETHERNET", 0),
            Err(Code::FailedPrecondition),
        ),
        // Its own it may change, as long as nobody gave it matches.
        ((A, "IP", 0), (A, "ETHERNET", 0), Ok(("ETHERNET", 0))),
        // Matches replace a bare service, one without owner, and the same owner's.
        ((A, "IP", 0), (ADMIN, "ETHERNET", 1), Ok(("ETHERNET", 1))),
        (("", "IP", 2), (ADMIN, "IP", 1), Ok(("IP", 1))),
        ((ADMIN, "IP", 2), (ADMIN, "IP", 1), Ok(("IP", 1))),
        ((ADMIN, "IP", 2), (B, "IP", 1), Err(Code::PermissionDenied)),
        ((ADMIN, "IP", 2), ("", "IP", 1), Err(Code::PermissionDenied)),
    ];
    for (stored, new, expected) in rows {
        let (registry, _clock) = open().await;
        let stored = service_of("vpn", stored.0, stored.1, stored.2);
        registry.register::<Services>(stored.clone()).await.unwrap();
        let answer = registry
            .register::<Services>(service_of("vpn", new.0, new.1, new.2))
            .await;
        let found = registry.find::<Services>(&service("vpn"));
        match (answer, expected) {
            (Ok(answer), Ok((payload, matches))) => {
                assert_eq!(
                    (answer.payload.as_str(), answer.matches.len()),
                    (*payload, *matches),
                    "{new:?}"
                );
                assert_eq!(
                    *found[0], answer,
                    "{new:?}: what was answered is what is found"
                );
            }
            (Err(error), Err(code)) => {
                assert_eq!(error.code, *code, "{new:?}: {error}");
                assert!(error.message.contains("\"vpn\""), "{error}");
                assert_eq!(*found[0], stored, "{new:?}: refused, and yet changed");
            }
            (answer, expected) => panic!("{new:?} over {stored:?}: {answer:?}, not {expected:?}"),
        }
    }
}

#[tokio::test]
async fn a_name_belongs_to_its_owner_until_it_ends() {
    let (registry, clock) = open().await;
    let of = |owner, seconds| endpoint("nse-1", owner, "vpn", clock.at(seconds));
    registry.register::<Endpoints>(of(A, 60)).await.unwrap();
    registry.register::<Endpoints>(of(A, 90)).await.unwrap();
    for refused in [
        registry.register::<Endpoints>(of(B, 60)).await.unwrap_err(),
        registry
            .unregister::<Endpoints>(&of(B, 60))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(refused.code, Code::PermissionDenied);
        assert!(
            refused.message.contains(A) && refused.message.contains(B),
            "{refused}"
        );
    }
    registry.unregister::<Endpoints>(&of(A, 60)).await.unwrap();
    registry.unregister::<Endpoints>(&of(B, 60)).await.unwrap();
    registry.register::<Endpoints>(of(B, 60)).await.unwrap();
    clock.advance(Duration::from_secs(61));
    registry.register::<Endpoints>(of(A, 120)).await.unwrap();
    assert_eq!(registry.find::<Endpoints>(&query("vpn"))[0].path_ids, [A]);
}

#[tokio::test]
async fn what_nobody_renews_ends_and_is_told() {
    let (registry, clock) = open().await;
    for (name, seconds) in [("short", 5), ("long", 60), ("renewed", 5)] {
        registry
            .register::<Endpoints>(endpoint(name, A, "vpn", clock.at(seconds)))
            .await
            .unwrap();
    }
    let mut watch = registry.watch::<Endpoints>(query("vpn")).unwrap();
    for _ in 0..3 {
        assert!(!watch.next().await.unwrap().deleted);
    }
    registry
        .register::<Endpoints>(endpoint("renewed", A, "vpn", clock.at(60)))
        .await
        .unwrap();
    assert_eq!(watch.next().await.unwrap().item.name, "renewed");
    clock.advance(Duration::from_secs(6));
    let names: Vec<String> = registry
        .find::<Endpoints>(&query("vpn"))
        .iter()
        .map(|e| e.name.clone())
        .collect();
    assert_eq!(
        names,
        ["long", "renewed"],
        "found after its time, before it is removed"
    );
    let event = tokio::time::timeout(Duration::from_secs(5), watch.next())
        .await
        .unwrap()
        .unwrap();
    assert!(event.deleted && event.item.name == "short", "{event:?}");
    assert!(registry.get::<Endpoints>("short").is_none());
    registry
        .unregister_ended::<Endpoints>("renewed")
        .await
        .unwrap();
    assert!(registry.get::<Endpoints>("renewed").is_some());
}

/// Two endpoints that differ in all that a query can ask for.
fn two_endpoints(clock: &Manual) -> (NetworkServiceEndpoint, NetworkServiceEndpoint) {
    let mut first = NetworkServiceEndpoint {
        url: "tcp://10.0.0.1:5001".to_owned(),
        network_service_labels: labels("vpn", &[("app", "gateway"), ("zone", "1")])
            .network_service_labels,
        ..endpoint("nse-1", A, "vpn", clock.at(60))
    };
    first.network_service_names.push("nat@other".to_owned());
    let second = NetworkServiceEndpoint {
        url: "tcp://10.0.0.1:500".to_owned(),
        ..endpoint("nse-2@other", A, "vpn", clock.at(60))
    };
    (first, second)
}

fn labels(service: &str, labels: &[(&str, &str)]) -> NetworkServiceEndpoint {
    let mut query = NetworkServiceEndpoint::default();
    let entry = query
        .network_service_labels
        .entry(service.to_owned())
        .or_default();
    entry.labels = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    query
}

fn services(names: &[&str]) -> NetworkServiceEndpoint {
    let network_service_names = names.iter().map(|name| (*name).to_owned()).collect();
    NetworkServiceEndpoint {
        network_service_names,
        ..Default::default()
    }
}

fn url(url: &str) -> NetworkServiceEndpoint {
    NetworkServiceEndpoint {
        url: url.to_owned(),
        ..Default::default()
    }
}

fn name(name: &str) -> NetworkServiceEndpoint {
    NetworkServiceEndpoint {
        name: name.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn queries_find_by_every_rule() {
    let (registry, clock) = open().await;
    let (first, second) = two_endpoints(&clock);
    for record in [&first, &second] {
        registry
            .register::<Endpoints>(record.clone())
            .await
            .unwrap();
    }
    let until = |seconds| endpoint("", "", "vpn", clock.at(seconds));
    let rows: &[(NetworkServiceEndpoint, &[&str])] = &[
        (NetworkServiceEndpoint::default(), &["nse-1", "nse-2@other"]),
        (name("nse-1"), &["nse-1"]),
        (name("nse"), &[]),
        (name("nse-2@other"), &["nse-2@other"]),
        (services(&["vpn"]), &["nse-1", "nse-2@other"]),
        (services(&["vpn", "nat@other"]), &["nse-1"]),
        (services(&["nat"]), &[]),
        (labels("vpn", &[("app", "gateway")]), &["nse-1"]),
        (labels("vpn", &[("app", "gateway"), ("zone", "2")]), &[]),
        (labels("vpn", &[]), &["nse-1"]),
        (labels("nat@other", &[]), &[]),
        (url("tcp://10.0.0.1:500"), &["nse-2@other"]),
        (url("tcp://10.0.0.1"), &[]),
        (until(60), &["nse-1", "nse-2@other"]),
        (until(61), &[]),
    ];
    for (query, expected) in rows {
        let found = registry.find::<Endpoints>(query);
        let mut names: Vec<&str> = found
            .iter()
            .map(|endpoint| endpoint.name.as_str())
            .collect();
        names.sort_unstable();
        assert_eq!(names, *expected, "{query:?}");
    }
}

#[tokio::test]
async fn services_are_found_by_every_rule() {
    let (registry, _clock) = open().await;
    registry
        .register::<Services>(service_of("vpn", ADMIN, "IP", 2))
        .await
        .unwrap();
    for (query, found) in [
        (service_of("", "", "", 0), 1),
        (service_of("", "", "IP", 0), 1),
        (service_of("", "", "ETHERNET", 0), 0),
        (service_of("", "", "", 2), 1),
        (service_of("", "", "", 1), 0),
    ] {
        assert_eq!(registry.find::<Services>(&query).len(), found, "{query:?}");
    }
}

#[tokio::test]
async fn records_beyond_a_limit_are_refused() {
    let (registry, clock) = open().await;
    let mut services = endpoint("many", A, "vpn", clock.at(60));
    services.network_service_names = (0..2000).map(|n| n.to_string()).collect();
    let mut large = endpoint("large", A, "vpn", clock.at(60));
    large.url = "u".repeat(300_000);
    for (record, says) in [
        (
            endpoint("", A, "vpn", clock.at(60)),
            "name must not be empty",
        ),
        (
            endpoint(&"n".repeat(1025), A, "vpn", clock.at(60)),
            "name has 1025 bytes, at most 1024",
        ),
        (
            services,
            "\"many\" has 2001 services, labels, matches and routes, at most 1024",
        ),
        (large, "at most 262144 are allowed"),
    ] {
        let error = registry.register::<Endpoints>(record).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
        assert!(error.message.contains(says), "{error}");
    }
    assert_eq!(registry.counts::<Endpoints>(), (0, 0));
    let mut matches = service_of("matches", ADMIN, "IP", 1025);
    let mut routes = service_of("routes", ADMIN, "IP", 1);
    routes.matches[0].routes = vec![Default::default(); 1024];
    for service in [&matches, &routes] {
        let error = registry.register::<Services>(service.clone()).await;
        let error = error.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
        assert!(
            error.message.contains("has 1025 services, labels, matches"),
            "{error}"
        );
    }
    matches.matches.pop();
    registry.register::<Services>(matches).await.unwrap();
}

#[tokio::test]
async fn a_restart_forgets_nothing_and_gives_grace() {
    use nsm_registry::{Config, Registry, store::redb::RedbStore};
    use std::sync::Arc;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.redb");
    let clock = Manual::default();
    let open = || async {
        let store = Arc::new(RedbStore::open(&path).unwrap());
        Registry::open(store, Arc::new(clock.clone()), Config::default())
            .await
            .unwrap()
    };
    let registry = open().await;
    registry
        .register::<Endpoints>(endpoint("nse-1", A, "vpn", clock.at(60)))
        .await
        .unwrap();
    registry
        .register::<Services>(service_of("vpn", ADMIN, "IP", 2))
        .await
        .unwrap();
    registry.shutdown(Duration::from_secs(5)).await;
    drop(registry);
    clock.advance(Duration::from_secs(3600));
    let registry = open().await;
    assert_eq!(
        registry.find::<Services>(&service("vpn"))[0].matches.len(),
        2
    );
    assert_eq!(
        registry.find::<Endpoints>(&query("vpn")).len(),
        1,
        "nobody could refresh it while we were away"
    );
    let foreign = registry
        .register::<Endpoints>(endpoint("nse-1", B, "vpn", clock.at(60)))
        .await
        .unwrap_err();
    assert_eq!(
        foreign.code,
        Code::PermissionDenied,
        "owners survive a restart"
    );
    clock.advance(Duration::from_secs(61));
    assert!(registry.find::<Endpoints>(&query("vpn")).is_empty());
}
