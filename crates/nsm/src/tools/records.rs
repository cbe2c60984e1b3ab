//! What the registry holds, in shapes that stay.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use nsm_api::registry::{Match, NetworkService, NetworkServiceEndpoint};
use nsm_model::{spiffe::SpiffeId, url::EndpointUrl};
use serde::Serialize;

use super::output::{rfc3339, until};
use crate::roles::manager::MANAGER_SERVICE;

/// A network service.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) payload: String,
    pub(crate) matches: Vec<Rule>,
    /// How many endpoints offer it.
    pub(crate) endpoints: usize,
    /// The SPIFFE ID of who registered it.
    pub(crate) owner: Option<String>,
}

/// A match of a service: snake_case, as in the files that `nsm apply` reads.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Rule {
    source_selector: BTreeMap<String, String>,
    fallthrough: bool,
    routes: Vec<Route>,
}

/// A route of a match.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Route {
    destination_selector: BTreeMap<String, String>,
    weight: u32,
}

/// An endpoint; managers and forwarders are endpoints too.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) services: Vec<String>,
    /// By service.
    pub(crate) labels: BTreeMap<String, BTreeMap<String, String>>,
    /// The node that it says it runs on, else the one of the manager whose URL it has.
    pub(crate) node: Option<String>,
    pub(crate) url: String,
    /// RFC 3339.
    pub(crate) registered: Option<String>,
    /// RFC 3339.
    pub(crate) expires: Option<String>,
    pub(crate) owner: Option<String>,
    #[serde(skip)]
    ends: Option<SystemTime>,
}

/// The label that a manager gives its endpoints.
const NODE_LABEL: &str = "nodeName";

impl Service {
    /// From the wire, with all endpoints of the domain.
    pub(crate) fn new(service: &NetworkService, endpoints: &[NetworkServiceEndpoint]) -> Self {
        Self {
            name: service.name.clone(),
            payload: service.payload.clone(),
            matches: service.matches.iter().map(rule).collect(),
            endpoints: endpoints
                .iter()
                .filter(|endpoint| offers(endpoint, &service.name))
                .count(),
            owner: service.path_ids.first().cloned(),
        }
    }

    /// Its line of a table, below [`Service::HEADINGS`].
    pub(crate) fn row(&self, own: &SpiffeId) -> Vec<String> {
        vec![
            self.name.clone(),
            self.payload.clone(),
            self.matches.len().to_string(),
            self.endpoints.to_string(),
            short(self.owner.as_deref(), own),
        ]
    }

    pub(crate) const HEADINGS: [&str; 5] = ["NAME", "PAYLOAD", "MATCHES", "ENDPOINTS", "OWNER"];
}

fn rule(of: &Match) -> Rule {
    Rule {
        source_selector: of.source_selector.clone(),
        fallthrough: of.fallthrough,
        routes: of
            .routes
            .iter()
            .map(|route| Route {
                destination_selector: route.destination_selector.clone(),
                weight: route.weight,
            })
            .collect(),
    }
}

/// Whether an endpoint offers a service.
pub(crate) fn offers(endpoint: &NetworkServiceEndpoint, service: &str) -> bool {
    endpoint
        .network_service_names
        .iter()
        .any(|name| name == service)
}

/// Which node a URL leads to: whoever has it and says where it runs tells, else it is called after
/// its manager.
pub(crate) fn nodes(all: &[NetworkServiceEndpoint]) -> BTreeMap<String, String> {
    let managers = all.iter().filter(|one| offers(one, MANAGER_SERVICE));
    let mut nodes: BTreeMap<String, String> = managers
        .map(|one| (one.url.clone(), one.name.clone()))
        .collect();
    for one in all {
        let mut labels = one.network_service_labels.values();
        let said = labels.find_map(|labels| labels.labels.get(NODE_LABEL));
        if let (Some(node), Some(said)) = (nodes.get_mut(&one.url), said) {
            node.clone_from(said);
        }
    }
    nodes
}

impl Endpoint {
    /// From the wire; `nodes` as [`nodes`] has them.
    pub(crate) fn new(endpoint: &NetworkServiceEndpoint, nodes: &BTreeMap<String, String>) -> Self {
        let labels: BTreeMap<String, BTreeMap<String, String>> = endpoint
            .network_service_labels
            .iter()
            .map(|(service, of)| (service.clone(), of.labels.clone()))
            .collect();
        let node = labels
            .values()
            .find_map(|labels| labels.get(NODE_LABEL))
            .or_else(|| nodes.get(&endpoint.url))
            .cloned();
        let ends = endpoint
            .expiration_time
            .as_option()
            .and_then(|time| SystemTime::try_from(time.clone()).ok());
        let registered = endpoint
            .initial_registration_time
            .as_option()
            .and_then(|time| SystemTime::try_from(time.clone()).ok());
        Self {
            name: endpoint.name.clone(),
            services: endpoint.network_service_names.clone(),
            labels,
            node,
            url: endpoint.url.clone(),
            registered: registered.map(rfc3339),
            expires: ends.map(rfc3339),
            owner: endpoint.path_ids.first().cloned(),
            ends,
        }
    }

    /// Its line of a table, below [`Endpoint::HEADINGS`].
    pub(crate) fn row(&self, own: &SpiffeId, now: SystemTime) -> Vec<String> {
        vec![
            self.name.clone(),
            self.services.join(","),
            self.label_text(),
            self.place(),
            self.left(now),
            short(self.owner.as_deref(), own),
        ]
    }

    pub(crate) const HEADINGS: [&str; 6] =
        ["NAME", "SERVICES", "LABELS", "NODE", "EXPIRES", "OWNER"];

    /// A manager's line, below [`Endpoint::MANAGER_HEADINGS`].
    pub(crate) fn manager_row(&self, own: &SpiffeId, now: SystemTime) -> Vec<String> {
        vec![
            self.name.clone(),
            self.url.clone(),
            self.left(now),
            short(self.owner.as_deref(), own),
        ]
    }

    pub(crate) const MANAGER_HEADINGS: [&str; 4] = ["NAME", "URL", "EXPIRES", "OWNER"];

    /// A forwarder's line, below [`Endpoint::FORWARDER_HEADINGS`].
    pub(crate) fn forwarder_row(&self, own: &SpiffeId, now: SystemTime) -> Vec<String> {
        vec![
            self.name.clone(),
            self.place(),
            self.label_text(),
            self.left(now),
            short(self.owner.as_deref(), own),
        ]
    }

    pub(crate) const FORWARDER_HEADINGS: [&str; 5] = ["NAME", "NODE", "LABELS", "EXPIRES", "OWNER"];

    fn left(&self, now: SystemTime) -> String {
        self.ends.map(|ends| until(ends, now)).unwrap_or_default()
    }

    fn place(&self) -> String {
        match (&self.node, EndpointUrl::parse(&self.url)) {
            (Some(node), _) => node.clone(),
            (None, EndpointUrl::Unix(_) | EndpointUrl::Inode(_)) => "(local)".to_owned(),
            (None, EndpointUrl::Tcp { .. } | EndpointUrl::Other(_)) => self.url.clone(),
        }
    }

    /// Labels once where all services have the same, else by service; without the node, which has
    /// a column of its own.
    fn label_text(&self) -> String {
        let texts: BTreeMap<&String, String> = self
            .labels
            .iter()
            .map(|(service, labels)| {
                let words = labels.iter().filter(|(key, _)| *key != NODE_LABEL);
                let words: Vec<_> = words.map(|(key, value)| format!("{key}={value}")).collect();
                (service, words.join(","))
            })
            .collect();
        let different: BTreeSet<&String> = texts.values().collect();
        match different.first() {
            Some(same) if different.len() == 1 => (*same).clone(),
            _ => texts
                .iter()
                .map(|(service, text)| format!("{service}:{text}"))
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}

/// A SPIFFE ID without the trust domain, where that is our own.
fn short(id: Option<&str>, own: &SpiffeId) -> String {
    let Some(id) = id else { return String::new() };
    match id.parse::<SpiffeId>() {
        Ok(parsed) if parsed.member_of(&own.trust_domain()) => parsed.path().to_owned(),
        Ok(_) | Err(_) => id.to_owned(),
    }
}
