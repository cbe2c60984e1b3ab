//! Patterns, the standard roles, and files good and bad.

use super::*;

fn own() -> TrustDomain {
    "nsm.lab".parse().unwrap()
}

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

#[test]
fn patterns() {
    for (pattern, of, fits) in [
        ("/manager", "spiffe://nsm.lab/manager", true),
        ("/manager", "spiffe://nsm.lab/manager-1", false),
        ("/manager", "spiffe://nsm.lab/manager/1", false),
        ("/manager", "spiffe://nsm.lab", false),
        ("/manager", "spiffe://other.org/manager", false),
        ("/manager-*", "spiffe://nsm.lab/manager-node1", true),
        ("/manager-*", "spiffe://nsm.lab/manager-", true),
        ("/manager-*", "spiffe://nsm.lab/manager", false),
        ("/manager-*", "spiffe://nsm.lab/manager-node1/x", false),
        ("/manager-*", "spiffe://nsm.lab/x/manager-1", false),
        ("/*-prod", "spiffe://nsm.lab/web-prod", true),
        ("/a*a", "spiffe://nsm.lab/a", false),
        ("/a*a", "spiffe://nsm.lab/aa", true),
        ("/*", "spiffe://nsm.lab/x", true),
        ("/*", "spiffe://nsm.lab/x/y", false),
        ("/**", "spiffe://nsm.lab/x/y", true),
        ("/**", "spiffe://nsm.lab", false),
        ("/operator/**", "spiffe://nsm.lab/operator/ada", true),
        ("/operator/**", "spiffe://nsm.lab/operator/a/b", true),
        ("/operator/**", "spiffe://nsm.lab/operator", false),
        ("/operator/**", "spiffe://nsm.lab/operators/ada", false),
        (
            "/ns/*/pod/nsmgr-*",
            "spiffe://nsm.lab/ns/a/pod/nsmgr-x1",
            true,
        ),
        ("/ns/*/pod/nsmgr-*", "spiffe://nsm.lab/ns/a/pod/nsc", false),
        ("spiffe://other.org/**", "spiffe://other.org/x", true),
        ("spiffe://other.org/**", "spiffe://nsm.lab/x", false),
        ("spiffe://other.org/ns/*", "spiffe://xother.org/ns/a", false),
    ] {
        let read: Pattern = pattern.parse().unwrap();
        assert_eq!(read.matches(&id(of), &own()), fits, "{pattern} of {of}");
        assert_eq!(read.to_string(), pattern);
    }
}

#[test]
fn what_is_no_pattern() {
    for (text, says) in [
        ("", "must begin"),
        ("manager", "must begin"),
        ("*", "must begin"),
        ("http://nsm.lab/x", "must begin"),
        ("/", "has no path"),
        ("spiffe://nsm.lab", "has no path"),
        ("spiffe://nsm.lab/", "has no path"),
        ("spiffe://*/manager", "contains '*'"),
        ("spiffe:///manager", "trust domain is empty"),
        ("//manager", "segment \"\""),
        ("/manager/", "segment \"\""),
        ("/a/../b", "segment \"..\""),
        ("/a?b", "contains '?'"),
        ("/a b", "contains ' '"),
        ("/a-*-*", "more than one"),
        ("/***", "more than one"),
        ("/**/pod", "before its end"),
        ("/a**", "more than one"),
    ] {
        let error = text.parse::<Pattern>().unwrap_err().to_string();
        assert!(error.contains(says), "{text:?}: {error}");
    }
    let long = format!("/{}", "a".repeat(MAX_PATTERN));
    assert!(long.parse::<Pattern>().is_err());
}

const MAX_PATTERN: usize = crate::spiffe::MAX_ID_BYTES;

/// What people have before they write a file: the lab, `nsm ca`, upstream's manifests.
#[test]
fn the_standard_roles() {
    let roles = Roles::standard(&own());
    for (path, held) in [
        ("manager", "manager"),
        ("manager-node1", "manager"),
        ("manager/node1", "manager"),
        ("nsmgr-alpha", "manager"),
        ("ns/nsm-system/pod/nsmgr-x7k2p", "manager"),
        ("ns/nsm-system/pod/nsmgr-proxy-6d8-x7k2p", "manager"),
        ("forwarder-node1", "forwarder"),
        ("ns/nsm-system/pod/forwarder-vpp-x7k2p", "forwarder"),
        ("registry-node1", "registry"),
        ("ns/nsm-system/pod/registry-k8s-5d8-x7k2p", "registry"),
        ("operator", "operator"),
        ("operator/ada", "operator"),
        ("client", ""),
        ("managers", ""),
        ("ns/shop/pod/nsmgr-x7k2p", ""),
        ("ns/nsm-system/pod/nsc", ""),
        ("ns/nsm-system/pod/x/nsmgr-1", ""),
    ] {
        for role in [
            Role::Manager,
            Role::Forwarder,
            Role::Registry,
            Role::Operator,
        ] {
            let own = id(&format!("spiffe://nsm.lab/{path}"));
            assert_eq!(
                roles.holds(role, &own),
                held == role.name(),
                "{path} {role}"
            );
            let foreign = id(&format!("spiffe://other.org/{path}"));
            assert!(!roles.holds(role, &foreign), "{foreign} {role}");
        }
    }
    assert!(roles.client_of("any", &id("spiffe://nsm.lab/x")));
    assert!(roles.endpoint_of("any", &id("spiffe://nsm.lab/x")));
    assert!(roles.passes_on("any", &id("spiffe://nsm.lab/x")));
    assert!(!roles.client_of("any", &id("spiffe://other.org/x")));
    assert!(!roles.endpoint_of("any", &id("spiffe://other.org/x")));
}

#[test]
fn a_file() {
    let roles = Roles::load_yaml(
        "# the shop\n\
         managers: /ns/mesh/pod/manager-*\n\
         operators: []\n\
         clients:\n  vpn: [/ns/shop/**, spiffe://other.org/ns/shop/**]\n  \"*\": /ns/lab/**\n\
         endpoints:\n  vpn:\n  - /ns/vpn/pod/gateway-*\n",
        &own(),
    )
    .unwrap();
    let may = |what: fn(&Roles, &str, &SpiffeId) -> bool, service, text: &str| {
        what(&roles, service, &id(&format!("spiffe://{text}")))
    };
    for (service, who, client, endpoint, middle) in [
        ("vpn", "nsm.lab/ns/shop/pod/a", true, false, false),
        ("vpn", "other.org/ns/shop/pod/a", true, false, false),
        ("vpn", "other.org/ns/lab/pod/a", false, false, false),
        ("vpn", "nsm.lab/ns/lab/pod/a", false, false, false),
        ("vpn", "nsm.lab/ns/vpn/pod/gateway-1", false, true, true),
        ("web", "nsm.lab/ns/lab/pod/a", true, true, true),
        // Clients of "web" are named, so who speaks for them is as well.
        ("web", "nsm.lab/ns/shop/pod/a", false, true, false),
        ("web", "other.org/ns/lab/pod/a", false, false, false),
    ] {
        let said = (
            may(Roles::client_of, service, who),
            may(Roles::endpoint_of, service, who),
            may(Roles::passes_on, service, who),
        );
        assert_eq!(said, (client, endpoint, middle), "{service} {who}");
    }
    assert!(roles.holds(Role::Manager, &id("spiffe://nsm.lab/ns/mesh/pod/manager-1")));
    assert!(!roles.holds(Role::Manager, &id("spiffe://nsm.lab/manager-1")));
    assert!(!roles.holds(Role::Operator, &id("spiffe://nsm.lab/operator")));
    // Not named, so as ever.
    assert!(roles.holds(Role::Forwarder, &id("spiffe://nsm.lab/forwarder-1")));
}

#[test]
fn endpoints_of_every_service_speak_for_no_named_client() {
    let text = "clients: {vpn: /ns/shop/**}\nendpoints: {\"*\": /ns/apps/**}\n";
    let roles = Roles::load_yaml(text, &own()).unwrap();
    for (service, who, middle) in [
        ("vpn", "apps", false),
        ("vpn", "shop", true),
        ("web", "apps", true),
        ("web", "shop", false),
    ] {
        let who = id(&format!("spiffe://nsm.lab/ns/{who}/pod/a"));
        assert_eq!(roles.passes_on(service, &who), middle, "{service} {who}");
    }
}

#[test]
fn what_is_wrong_in_a_file() {
    for (text, says) in [
        (
            "",
            "line 1: a roles file holds one document, this one holds 0",
        ),
        ("---\nmanagers: /a\n---\nmanagers: /b\n", "holds 2"),
        ("- /manager", "line 1: the roles file must be a map"),
        (
            "manager: /a",
            "line 1: the roles file has an unknown key \"manager\" (known: managers, forwarders, registries, operators, clients, endpoints); write: managers:",
        ),
        (
            "operators:\n- /operator/**\nmanagers:\n- manager-1\n",
            "line 4: managers: pattern \"manager-1\" must begin with \"/\"",
        ),
        ("managers: manager-1", "write: /manager-1"),
        (
            "managers:\n",
            "line 1: managers is empty: is it nobody, or left open?",
        ),
        ("forwarders: []", "forwarders: nobody could be a forwarder"),
        ("managers: {a: b}", "managers must be a list of patterns"),
        ("managers: [[/a]]", "managers must hold patterns"),
        (
            "clients: [/a]",
            "line 1: clients must be a map from services to patterns, but is a list",
        ),
        ("clients:\n", "clients is empty"),
        (
            "clients:\n  vpn: /ns/a b/*\n",
            "line 2: clients.vpn: pattern \"/ns/a b/*\" contains ' '",
        ),
        (
            "endpoints:\n  vpn:\n  web: /a\n",
            "line 2: endpoints.vpn is empty",
        ),
        ("managers: /a\nmanagers: /b", "is given twice"),
        ("managers: [/a", "line "),
    ] {
        let error = Roles::load_yaml(text, &own()).unwrap_err().to_string();
        assert!(error.contains(says), "{text:?}: {error}");
    }
    let many = vec!["/a"; MAX_PATTERNS + 1].join(", ");
    let error = Roles::load_yaml(&format!("managers: [{many}]"), &own()).unwrap_err();
    assert!(error.to_string().contains("at most 256"), "{error}");
}
