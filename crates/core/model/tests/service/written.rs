//! What is written is read back.

use expect_test::expect;
use nsm_api::registry::{Destination, Match, Metadata, NetworkService};
use nsm_model::service::{load_yaml, to_yaml};
use proptest::prelude::*;

use crate::listings::KUBERNETES;

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
        "[a-z{}.: #-]{0,8}",
        "[0-9xoeinfa+.-]{0,6}",
        "[0-9]{1,3}",
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
