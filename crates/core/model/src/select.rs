//! Endpoint selection: which endpoints may serve a connection, and in which order they are tried
//! (upstream `tools/matchutils`; weights and the stable choice are ours).

mod rendezvous;

use std::collections::BTreeMap;

use nsm_api::registry::{Match, NetworkService, NetworkServiceEndpoint};

use crate::labels::{Labels, Selector};

/// An endpoint that may serve a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// The endpoint as registered.
    pub endpoint: &'a NetworkServiceEndpoint,
    /// Its share: the sum of the weights of the routes that lead to it, at least 1.
    pub weight: u64,
    /// Whether it has failed this connection; such candidates stand last.
    pub failed: bool,
}

/// The endpoints that may serve a connection with `labels`, best first.
///
/// `endpoints` are those registered for the service; the ones that have expired at `now_unix`
/// (seconds) are left out. `key` identifies the connection: the same key gets the same order, and
/// over many keys each endpoint comes first as often as its weight says. The endpoints named in
/// `failed` come last. Empty where nothing fits.
pub fn candidates<'a>(
    labels: &Labels,
    service: &NetworkService,
    endpoints: &'a [NetworkServiceEndpoint],
    now_unix: i64,
    key: &[u8],
    failed: &[String],
) -> Vec<Candidate<'a>> {
    let live: Vec<_> = endpoints.iter().filter(|e| !expired(e, now_unix)).collect();
    let mut found: Vec<_> = weighted(labels, service, &live)
        .into_values()
        .map(|(endpoint, weight)| {
            let failed = failed.contains(&endpoint.name);
            Candidate {
                endpoint,
                weight,
                failed,
            }
        })
        .collect();
    found.sort_by_cached_key(|c| (c.failed, rendezvous::rank(key, &c.endpoint.name, c.weight)));
    found
}

/// The forwarders that may carry a connection with `labels`, in the order given (upstream
/// `discoverforwarder`). `service_name` is the name under which forwarders register their labels.
pub fn forwarders<'a>(
    labels: &Labels,
    service: &NetworkService,
    forwarders: &'a [NetworkServiceEndpoint],
    service_name: &str,
) -> Vec<&'a NetworkServiceEndpoint> {
    if service.matches.is_empty() {
        return forwarders.iter().collect();
    }
    for rule in applicable(labels, service) {
        let selector = Selector::parse(&forwarder_labels(rule));
        let fits =
            |f: &&NetworkServiceEndpoint| selector.matches(labels_for(f, service_name), labels);
        let found: Vec<_> = forwarders.iter().filter(fits).collect();
        if !found.is_empty() || !rule.fallthrough {
            return found;
        }
    }
    Vec::new()
}

/// Whether the registration has run out at `now_unix`; one without a time never does.
pub fn expired(endpoint: &NetworkServiceEndpoint, now_unix: i64) -> bool {
    endpoint
        .expiration_time
        .as_option()
        .is_some_and(|time| time.seconds <= now_unix)
}

/// What a forwarder must have where a match does not say: the plain point-to-point kind.
fn forwarder_labels(rule: &Match) -> Labels {
    let labels = &rule.metadata.labels;
    if labels.is_empty() {
        [("p2p".to_owned(), "true".to_owned())].into()
    } else {
        labels.clone()
    }
}

/// Matches whose source selector fits the connection, in order.
fn applicable<'s>(labels: &Labels, service: &'s NetworkService) -> impl Iterator<Item = &'s Match> {
    let fits = |m: &&Match| Selector::parse(&m.source_selector).matches(labels, labels);
    service.matches.iter().filter(fits)
}

/// The labels an endpoint registered for one of its services.
fn labels_for<'e>(endpoint: &'e NetworkServiceEndpoint, service: &str) -> &'e Labels {
    static NONE: Labels = Labels::new();
    endpoint
        .network_service_labels
        .get(service)
        .map_or(&NONE, |l| &l.labels)
}

/// The matching endpoints by name with their weights.
fn weighted<'a>(
    labels: &Labels,
    service: &NetworkService,
    live: &[&'a NetworkServiceEndpoint],
) -> BTreeMap<&'a str, (&'a NetworkServiceEndpoint, u64)> {
    let all = || live.iter().map(|e| (e.name.as_str(), (*e, 1))).collect();
    if service.matches.is_empty() {
        return all();
    }
    for rule in applicable(labels, service) {
        let found = routed(labels, service, rule, live);
        if !found.is_empty() {
            return found;
        }
        if rule.fallthrough {
            continue;
        }
        // A match with metadata alone says which forwarders may carry it, not who may serve it.
        if rule.metadata.is_set() && rule.routes.is_empty() {
            return all();
        }
        return found;
    }
    BTreeMap::new()
}

/// The endpoints that a match's routes lead to; one reached by several gets the sum.
fn routed<'a>(
    labels: &Labels,
    service: &NetworkService,
    rule: &Match,
    live: &[&'a NetworkServiceEndpoint],
) -> BTreeMap<&'a str, (&'a NetworkServiceEndpoint, u64)> {
    let mut found = BTreeMap::new();
    for route in &rule.routes {
        let selector = Selector::parse(&route.destination_selector);
        for endpoint in live
            .iter()
            .filter(|e| selector.matches(labels_for(e, &service.name), labels))
        {
            let (_, weight) = found
                .entry(endpoint.name.as_str())
                .or_insert((*endpoint, 0));
            *weight += u64::from(route.weight.max(1));
        }
    }
    found
}

#[cfg(test)]
mod tests;
