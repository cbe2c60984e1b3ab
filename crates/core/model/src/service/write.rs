//! A NetworkService as a YAML document of the Kubernetes form.

use std::collections::BTreeMap;

use nsm_api::registry::{Destination, Match, NetworkService};
use serde::Serialize;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'a str,
    kind: &'a str,
    metadata: Name<'a>,
    spec: Spec<'a>,
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Spec<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    payload: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    matches: Vec<Rule<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    path_ids: &'a [String],
}

#[derive(Serialize)]
struct Rule<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    source_selector: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    fallthrough: bool,
    routes: Vec<Route<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
}

#[derive(Serialize)]
struct Route<'a> {
    destination_selector: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_zero")]
    weight: u32,
}

#[derive(Serialize)]
struct Metadata<'a> {
    labels: &'a BTreeMap<String, String>,
}

fn is_zero(weight: &u32) -> bool {
    *weight == 0
}

/// Writes the Kubernetes form; [`super::load_yaml`] reads it back to the same service.
///
/// Fails only if the YAML writer does, with its message.
pub fn to_yaml(service: &NetworkService) -> Result<String, serde_saphyr::SerializeError> {
    serde_saphyr::to_string(&Document {
        api_version: "networkservicemesh.io/v1",
        kind: "NetworkService",
        metadata: Name {
            name: &service.name,
        },
        spec: Spec {
            payload: &service.payload,
            matches: service.matches.iter().map(rule).collect(),
            path_ids: &service.path_ids,
        },
    })
}

fn rule(of: &Match) -> Rule<'_> {
    Rule {
        source_selector: &of.source_selector,
        fallthrough: of.fallthrough,
        routes: of.routes.iter().map(route).collect(),
        metadata: of
            .metadata
            .as_option()
            .map(|m| Metadata { labels: &m.labels }),
    }
}

fn route(of: &Destination) -> Route<'_> {
    Route {
        destination_selector: &of.destination_selector,
        weight: of.weight,
    }
}
