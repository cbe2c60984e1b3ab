//! Whole documents, and how a row is checked.

use expect_test::Expect;
use nsm_api::registry::NetworkService;
use nsm_model::service::load_yaml;

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

pub(crate) fn check(yaml: &str, expected: &Expect) {
    let text = match load_yaml(yaml) {
        Ok(services) => services.iter().map(summary).collect::<Vec<_>>().join("\n"),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&text);
}

/// The document around a spec, whose first line is line 5.
pub(crate) fn spec(spec: &str) -> String {
    format!(
        "apiVersion: networkservicemesh.io/v1\nkind: NetworkService\nmetadata: {{name: svc}}\nspec:\n{spec}"
    )
}

pub(crate) const KUBERNETES: &str = "\
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

pub(crate) const OLDER: &str = "\
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

pub(crate) const OLDER_NESTED: &str = "\
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
