//! NetworkService documents: both forms, and every broken listing with its line and correction.

use expect_test::{Expect, expect};
use nsm_api::registry::{Destination, Match, Metadata, NetworkService};
use nsm_model::service::{load_yaml, to_yaml};
use proptest::prelude::*;

/// What a service says, a line for each match.
fn summary(service: &NetworkService) -> String {
    let labels = |l: &std::collections::BTreeMap<String, String>| {
        l.iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let mut text = format!("{} payload={}", service.name, service.payload);
    for rule in &service.matches {
        text += &format!("\n  [{}]", labels(&rule.source_selector));
        for route in &rule.routes {
            text += &format!(
                " -> [{}]*{}",
                labels(&route.destination_selector),
                route.weight
            );
        }
        if rule.fallthrough {
            text += " fallthrough";
        }
        if let Some(metadata) = rule.metadata.as_option() {
            text += &format!(" metadata[{}]", labels(&metadata.labels));
        }
    }
    text
}

fn check(yaml: &str, expected: &Expect) {
    let text = match load_yaml(yaml) {
        Ok(services) => services.iter().map(summary).collect::<Vec<_>>().join("\n"),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&text);
}

/// The document around a spec, whose first line is line 5.
fn spec(spec: &str) -> String {
    format!(
        "apiVersion: networkservicemesh.io/v1\nkind: NetworkService\nmetadata: {{name: svc}}\nspec:\n{spec}"
    )
}

const KUBERNETES: &str = "\
---
apiVersion: networkservicemesh.io/v1
kind: NetworkService
metadata:
  name: secure-intranet-connectivity
  namespace: nsm-system
spec:
  payload: ETHERNET
  matches:
    - source_selector:
        app: firewall
      routes:
        - destination_selector:
            app: vpn-gateway
          weight: 3
        - destination_selector: {app: vpn-gateway, zone: '{{ .zone }}'}
    - fallthrough: true
      routes:
        - destination_selector:
            nodeName: \"{{ .nodeName }}\"
    - metadata:
        labels: {p2p: \"true\"}
---
apiVersion: networkservicemesh.io/v1
kind: NetworkService
metadata:
  name: plain
";

const OLDER: &str = "\
---
apiVersion: networkservicemesh.io/v1alpha1
kind: NetworkService
metadata:
  name: secure-intranet-connectivity
spec:
  payload: IP
  matches:
    - match:
      sourceSelector:
        app: firewall
      route:
        - destination:
          destinationSelector:
            app: vpn-gateway
          weight: 2
    - match:
      route:
        - destination:
          destinationSelector:
            app: firewall
";

const OLDER_NESTED: &str = "\
apiVersion: networkservicemesh.io/v1
kind: NetworkService
metadata: {name: nested}
spec:
  matches:
    - match:
        sourceSelector: {app: firewall}
        routes:
          - destination:
              destinationSelector: {app: vpn-gateway}
";

#[test]
fn both_forms_are_read() {
    check(
        KUBERNETES,
        &expect![[r#"
        secure-intranet-connectivity payload=ETHERNET
          [app=firewall] -> [app=vpn-gateway]*3 -> [app=vpn-gateway,zone={{ .zone }}]*0
          [] -> [nodeName={{ .nodeName }}]*0 fallthrough
          [] metadata[p2p=true]
        plain payload="#]],
    );
    check(
        OLDER,
        &expect![[r#"
        secure-intranet-connectivity payload=IP
          [app=firewall] -> [app=vpn-gateway]*2
          [] -> [app=firewall]*0"#]],
    );
    check(
        OLDER_NESTED,
        &expect![[r#"
        nested payload=
          [app=firewall] -> [app=vpn-gateway]*0"#]],
    );
    // Nothing written is an empty selector, an empty list, no labels.
    check(&spec("  matches:\n"), &expect!["svc payload="]);
    check(
        &spec("  matches:\n  - source_selector:\n    routes:\n    - destination_selector:\n"),
        &expect![[r#"
            svc payload=
              [] -> []*0"#]],
    );
}

#[test]
fn labels_that_are_not_text() {
    // No space after the colon: the selector is a text.
    check(
        &spec("  matches:\n  - source_selector:\n      app:firewall\n    routes: []\n"),
        &expect![[
            r#"line 7: the source selector must be a map, but is the text "app:firewall"; write: app: firewall"#
        ]],
    );
    check(
        &OLDER.replace("app: firewall\n      route", "app:firewall\n      route"),
        &expect![[
            r#"line 11: the source selector must be a map, but is the text "app:firewall"; write: app: firewall"#
        ]],
    );
    // The same beside a good label: not even YAML.
    check(
        &spec(
            "  matches:\n  - source_selector:\n      app: firewall\n      zone:a\n    routes: []\n",
        ),
        &expect![[r#"line 8: "zone:a" has no space after the colon; write: zone: a"#]],
    );
    check(
        &spec(
            "  matches:\n  - source_selector:\n      zone:a\n      app: firewall\n    routes: []\n",
        ),
        &expect![[r#"line 7: "zone:a" has no space after the colon; write: zone: a"#]],
    );
    check(
        &spec(
            "  matches:\n  - source_selector:\n      zone:a\n      app:firewall\n    routes: []\n",
        ),
        &expect![[
            r#"line 7: the source selector must be a map, but is the text "zone:a app:firewall"; write: {zone: a, app: firewall}"#
        ]],
    );
    check(
        &spec("  matches:\n  - source_selector: {app:firewall}\n"),
        &expect![[
            r#"line 6: label "app:firewall" of the source selector has no value; write: app: firewall"#
        ]],
    );
    // Unquoted words and numbers that YAML does not take for text.
    check(
        &spec("  matches:\n  - source_selector: {secure: true}\n"),
        &expect![[
            r#"line 6: label "secure" of the source selector must be text, but true is a boolean; write: secure: "true""#
        ]],
    );
    check(
        &spec("  matches:\n  - source_selector:\n      secure: yes\n"),
        &expect![[
            r#"line 7: label "secure" of the source selector must be text, but yes is a boolean; write: secure: "yes""#
        ]],
    );
    check(
        &spec("  matches:\n  - routes:\n    - destination_selector: {port: 8080}\n"),
        &expect![[
            r#"line 7: label "port" of the destination selector must be text, but 8080 is a number; write: port: "8080""#
        ]],
    );
    check(
        &spec("  matches:\n  - source_selector: {app: }\n"),
        &expect![[r#"line 6: label "app" of the source selector has no value; write: app: """#]],
    );
    check(
        &spec("  matches:\n  - source_selector: {app: [a, b]}\n"),
        &expect![[r#"line 6: label "app" of the source selector must be text, but is a list"#]],
    );
}

#[test]
fn the_forms_are_not_mixed() {
    check(
        &spec("  matches:\n  - source_selector: {a: b}\n    route: []\n"),
        &expect![[
            r#"line 7: "route" is of the older form, but "source_selector" in line 6 is of the Kubernetes form: both forms are mixed; write: routes:"#
        ]],
    );
    check(
        &spec(
            "  matches:\n  - sourceSelector: {a: b}\n    routes:\n    - destination_selector: {a: b}\n",
        ),
        &expect![[
            r#"line 8: "destination_selector" is of the Kubernetes form, but "sourceSelector" in line 6 is of the older form: both forms are mixed; write: destinationSelector:"#
        ]],
    );
    check(
        &spec("  matches:\n  - match:\n    source_selector: {a: b}\n"),
        &expect![[
            r#"line 7: "source_selector" is of the Kubernetes form, but "match" in line 6 is of the older form: both forms are mixed; write: sourceSelector:"#
        ]],
    );
    check(
        &spec("  matches:\n  - match: {sourceSelector: {a: b}}\n    routes: []\n"),
        &expect![[
            r#"line 7: "routes" stands beside "match", which has fields of its own; write: "routes" indented under match:"#
        ]],
    );
    check(
        &spec("  matches:\n  - route: []\n    routes: []\n"),
        &expect![[r#"line 6: "route" and "routes" (line 7) are the same: give one of them"#]],
    );
    check(
        &spec("  matches:\n  - source_selector: {a: b}\n    sourceSelector: {a: b}\n"),
        &expect![[
            r#"line 7: "sourceSelector" is of the older form, but "source_selector" in line 6 is of the Kubernetes form: both forms are mixed; write: source_selector:"#
        ]],
    );
}

#[test]
fn unknown_keys_and_wrong_types() {
    check(
        &spec("  matchs: []\n"),
        &expect![[
            r#"line 5: spec has an unknown key "matchs" (known: name, payload, matches, path_ids); write: matches:"#
        ]],
    );
    check(
        &spec("  matches:\n  - source-selector: {a: b}\n"),
        &expect![[
            r#"line 6: an item of matches has an unknown key "source-selector" (known: match, source_selector, sourceSelector, routes, route, fallthrough, metadata); write: source_selector:"#
        ]],
    );
    check(
        &spec("  matches:\n  - routes:\n    - weigth: 1\n"),
        &expect![[
            r#"line 7: an item of routes has an unknown key "weigth" (known: destination, destination_selector, destinationSelector, weight); write: weight:"#
        ]],
    );
    check(
        &spec("  matches:\n  - routes:\n    - colour: red\n"),
        &expect![[
            r#"line 7: an item of routes has an unknown key "colour" (known: destination, destination_selector, destinationSelector, weight)"#
        ]],
    );
    check(
        &spec("  matches:\n    source_selector: {a: b}\n"),
        &expect!["line 6: spec.matches must be a list, but is a map; write: - source_selector:"],
    );
    check(
        &spec("  matches:\n  - routes:\n      destination_selector: {a: b}\n"),
        &expect!["line 7: routes must be a list, but is a map; write: - destination_selector:"],
    );
    check(
        &spec("  matches:\n  - routes:\n    - weight: -1\n"),
        &expect![[
            r#"line 7: weight must be a whole number from 0 to 4294967295, but is the text "-1""#
        ]],
    );
    check(
        &spec("  matches:\n  - routes:\n    - weight: \"3\"\n"),
        &expect![[r#"line 7: weight must be a number, but is the text "3"; write: 3"#]],
    );
    check(
        &spec("  matches:\n  - fallthrough: True\n"),
        &expect![[
            r#"line 6: fallthrough must be true or false, but is the text "True"; write: true"#
        ]],
    );
    check(
        &spec("  payload: ethernet\n"),
        &expect![[
            r#"line 5: spec.payload "ethernet" must be in capitals; write: payload: ETHERNET"#
        ]],
    );
    check(
        &spec("  payload: [IP]\n"),
        &expect!["line 5: spec.payload must be text, but is a list"],
    );
    check(
        &spec("  payload: IP\n  payload: IP\n"),
        &expect![[r#"line 6: "payload" is given twice: first in line 5"#]],
    );
    check(
        &spec("  name: other\n"),
        &expect![[r#"line 5: spec.name is "other", but metadata.name is "svc"; write: name: svc"#]],
    );
}

#[test]
fn the_outer_part() {
    check("", &expect!["line 1: the file holds no NetworkService"]);
    check(
        "--- \n---\n",
        &expect!["line 1: the file holds no NetworkService"],
    );
    check(
        "kind: NetworkService\n",
        &expect![[
            r#"line 1: the document has no "apiVersion"; write: apiVersion: networkservicemesh.io/v1"#
        ]],
    );
    check(
        "apiversion: networkservicemesh.io/v1\nkind: NetworkService\n",
        &expect![[
            r#"line 1: the document has an unknown key "apiversion" (known: apiVersion); write: apiVersion:"#
        ]],
    );
    check(
        "apiVersion: networkservicemesh.io/v2\nkind: NetworkService\n",
        &expect![[
            r#"line 1: apiVersion is "networkservicemesh.io/v2", not one this file may hold; write: apiVersion: networkservicemesh.io/v1"#
        ]],
    );
    check(
        "apiVersion: networkservicemesh.io/v1\nkind: Networkservice\n",
        &expect![[
            r#"line 2: kind is "Networkservice", not one this file may hold; write: kind: NetworkService"#
        ]],
    );
    check(
        "apiVersion: networkservicemesh.io/v1\nkind: NetworkService\nmetadata:\n",
        &expect![[
            r#"line 3: the document has no "metadata"; write: metadata: {name: my-service}"#
        ]],
    );
    check(
        "apiVersion: networkservicemesh.io/v1\nkind: NetworkService\nmetadata:\n  nam: x\n",
        &expect![[r#"line 4: metadata has an unknown key "nam" (known: name); write: name:"#]],
    );
    check(
        "apiVersion: networkservicemesh.io/v1\nkind: NetworkService\nmetadata: {name: a b}\n",
        &expect![[r#"line 3: metadata.name "a b" contains ' '"#]],
    );
    check(
        &format!("{KUBERNETES}{KUBERNETES}"),
        &expect![[
            r#"line 29: NetworkService "secure-intranet-connectivity" is given twice in this file"#
        ]],
    );
    check(
        "just text\n",
        &expect![[r#"line 1: the document must be a map, but is the text "just text""#]],
    );
}

#[test]
fn what_typesetting_does() {
    check(
        &spec("  matches:\n  - source_selector:\n      app: \u{201c}firewall\u{201d}\n"),
        &expect![[
            r#"line 7: "app: “firewall”" contains a typographic quote; write: app: "firewall""#
        ]],
    );
    check(
        &spec("  matches:\n  \u{2013} source_selector: {a: b}\n"),
        &expect![[
            r#"line 6: "– source_selector: {a: b}" begins with a typographic dash; write: - source_selector: {a: b}"#
        ]],
    );
    check(
        &spec("  matches:\n\t- source_selector: {a: b}\n"),
        &expect![[r#"line 6: "- source_selector: {a: b}" is indented with a tab; write: spaces"#]],
    );
    check(
        &spec("  payload:\u{a0}IP\n"),
        &expect![[r#"line 5: "payload:\u{a0}IP" contains a no-break space; write: payload: IP"#]],
    );
    check(
        &spec("  payload: IP # it\u{2019}s fine in a comment\n"),
        &expect!["svc payload=IP"],
    );
    check(
        &spec("  matches: [\n"),
        &expect!["line 5: not YAML: unclosed bracket '['"],
    );
    check(
        &spec("  matches: &a []\n"),
        &expect!["line 5: anchors (&) and aliases (*) are not read: write the value out"],
    );
    check(
        &spec("  matches: *a\n"),
        &expect!["line 5: not YAML: while parsing node, found unknown anchor"],
    );
    check(
        &spec(&format!("  matches: {}\n", "[".repeat(100))),
        &expect!["line 5: not YAML: unclosed bracket '['"],
    );
    check(
        &spec(&format!(
            "  matches: {}{}\n",
            "[".repeat(100),
            "]".repeat(100)
        )),
        &expect!["line 5: more than 32 levels of nesting"],
    );
    check(
        &" ".repeat(2 << 20),
        &expect!["line 1: the file has 2097152 bytes, at most 1048576 are read"],
    );
}

#[test]
fn written_in_the_kubernetes_form() {
    let services = load_yaml(KUBERNETES).unwrap();
    expect![[r#"
        apiVersion: networkservicemesh.io/v1
        kind: NetworkService
        metadata:
          name: secure-intranet-connectivity
        spec:
          payload: ETHERNET
          matches:
          - source_selector:
              app: firewall
            routes:
            - destination_selector:
                app: vpn-gateway
              weight: 3
            - destination_selector:
                app: vpn-gateway
                zone: "{{ .zone }}"
          - fallthrough: true
            routes:
            - destination_selector:
                nodeName: "{{ .nodeName }}"
          - routes: []
            metadata:
              labels:
                p2p: "true"
    "#]]
    .assert_eq(&to_yaml(&services[0]).unwrap());
    expect![[r#"
        apiVersion: networkservicemesh.io/v1
        kind: NetworkService
        metadata:
          name: plain
        spec: {}
    "#]]
    .assert_eq(&to_yaml(&services[1]).unwrap());
}

fn labels() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    let value = prop_oneof![
        Just("true".to_owned()),
        Just("8080".to_owned()),
        "[a-z{}.: #-]{0,8}"
    ];
    prop::collection::btree_map("[a-zA-Z][a-zA-Z0-9./-]{0,8}", value, 0..4)
}

fn rule() -> impl Strategy<Value = Match> {
    let route = (labels(), any::<u32>()).prop_map(|(destination_selector, weight)| Destination {
        destination_selector,
        weight,
        ..Default::default()
    });
    let routes = prop::collection::vec(route, 0..3);
    (labels(), routes, any::<bool>(), prop::option::of(labels())).prop_map(
        |(source_selector, routes, fallthrough, meta)| {
            let metadata = meta
                .map(|labels| Metadata {
                    labels,
                    ..Default::default()
                })
                .into();
            Match {
                source_selector,
                routes,
                fallthrough,
                metadata,
                ..Default::default()
            }
        },
    )
}

proptest! {
    #[test]
    fn written_and_read_is_the_same(name in "[a-z0-9][a-z0-9@.-]{0,20}", payload in "(IP|ETHERNET|MPLS)?", matches in prop::collection::vec(rule(), 0..4)) {
        let service = NetworkService { name, payload, matches, ..Default::default() };
        let yaml = to_yaml(&service).unwrap();
        prop_assert_eq!(load_yaml(&yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}")), vec![service]);
    }

    #[test]
    fn no_text_panics(text in "([a-z]{1,6}[: ]{0,2}|\\n *|- |[{}\\[\\],&*|>\"'#]|---\\n){0,40}") {
        let _ = load_yaml(&text);
    }
}
