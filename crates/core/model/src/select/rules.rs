//! A service's matches with their selectors parsed once.

use std::collections::BTreeMap;

use nsm_api::registry::{Match, NetworkService, NetworkServiceEndpoint};

use super::{Candidate, expired, rendezvous};
use crate::labels::{Labels, Selector};

/// Endpoints by name with their weights.
type Weighted<'a> = BTreeMap<&'a str, (&'a NetworkServiceEndpoint, u64)>;
/// The same, and how many matches were fallen through before the one that leads to them.
type Tiered<'a> = BTreeMap<&'a str, (&'a NetworkServiceEndpoint, u64, usize)>;

/// How a service chooses among its endpoints, ready to be asked many times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    service: String,
    matches: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    source: Selector,
    routes: Vec<(Selector, u64)>,
    fallthrough: bool,
    has_metadata: bool,
    forwarder: Selector,
}

impl Rules {
    /// Reads the matches of a service; never fails (see [`Selector::parse`]).
    pub fn parse(service: &NetworkService) -> Self {
        Self {
            service: service.name.clone(),
            matches: service.matches.iter().map(Rule::parse).collect(),
        }
    }

    /// See [`super::candidates`].
    pub fn candidates<'a>(
        &self,
        labels: &Labels,
        endpoints: &'a [NetworkServiceEndpoint],
        now_unix: i64,
        key: &[u8],
        failed: &[String],
    ) -> Vec<Candidate<'a>> {
        let mut found: Vec<_> = self
            .tiered(labels, endpoints)
            .into_values()
            .map(|(endpoint, weight, tier)| Candidate {
                endpoint,
                weight,
                tier,
                expired: expired(endpoint, now_unix),
                failed: failed.contains(&endpoint.name),
            })
            .collect();
        found.sort_by_cached_key(|c| {
            let rank = rendezvous::rank(key, &c.endpoint.name, c.weight);
            (c.failed, c.expired, c.tier, rank)
        });
        found
    }

    /// See [`super::forwarders`].
    pub fn forwarders<'a>(
        &self,
        labels: &Labels,
        forwarders: &'a [NetworkServiceEndpoint],
        service_name: &str,
    ) -> Vec<&'a NetworkServiceEndpoint> {
        if self.matches.is_empty() {
            return forwarders.iter().collect();
        }
        for rule in self.applicable(labels) {
            let fits = |f: &&NetworkServiceEndpoint| {
                rule.forwarder.matches(labels_for(f, service_name), labels)
            };
            let found: Vec<_> = forwarders.iter().filter(fits).collect();
            if !found.is_empty() || !rule.fallthrough {
                return found;
            }
        }
        Vec::new()
    }

    /// See [`super::applies`].
    pub fn applies(&self, labels: &Labels) -> bool {
        self.matches.is_empty() || self.applicable(labels).next().is_some()
    }

    /// Matches whose source selector fits the connection, in order.
    fn applicable<'s>(&'s self, labels: &Labels) -> impl Iterator<Item = &'s Rule> {
        self.matches
            .iter()
            .filter(move |rule| rule.source.matches(labels, labels))
    }

    /// The matching endpoints.
    fn tiered<'a>(&self, labels: &Labels, endpoints: &'a [NetworkServiceEndpoint]) -> Tiered<'a> {
        let mut tiered = Tiered::new();
        let mut add = |found: Weighted<'a>, tier| {
            for (name, (endpoint, weight)) in found {
                tiered.entry(name).or_insert((endpoint, weight, tier));
            }
        };
        let all = || endpoints.iter().map(|e| (e.name.as_str(), (e, 1)));
        if self.matches.is_empty() {
            add(all().collect(), 0);
        }
        for (tier, rule) in self.applicable(labels).enumerate() {
            let found = rule.routed(labels, &self.service, endpoints);
            // A match with metadata alone says which forwarders may carry it, not who serves it.
            if rule.has_metadata && rule.routes.is_empty() && !rule.fallthrough {
                add(all().collect(), tier);
            }
            add(found, tier);
            if !rule.fallthrough {
                break;
            }
        }
        tiered
    }
}

impl Rule {
    fn parse(of: &Match) -> Self {
        let route = |r: &nsm_api::registry::Destination| {
            let weight = u64::from(r.weight.max(1));
            (Selector::parse(&r.destination_selector), weight)
        };
        Self {
            source: Selector::parse(&of.source_selector),
            routes: of.routes.iter().map(route).collect(),
            fallthrough: of.fallthrough,
            has_metadata: of.metadata.is_set(),
            forwarder: Selector::parse(&forwarder_labels(of)),
        }
    }

    /// The endpoints that the routes lead to; one reached by several gets the sum.
    fn routed<'a>(
        &self,
        labels: &Labels,
        service: &str,
        endpoints: &'a [NetworkServiceEndpoint],
    ) -> Weighted<'a> {
        let mut found = Weighted::new();
        for (selector, share) in &self.routes {
            let fits =
                |e: &&NetworkServiceEndpoint| selector.matches(labels_for(e, service), labels);
            for endpoint in endpoints.iter().filter(fits) {
                let (_, weight) = found.entry(endpoint.name.as_str()).or_insert((endpoint, 0));
                *weight += share;
            }
        }
        found
    }
}

/// What a forwarder must have where a match does not say: the plain point-to-point kind.
fn forwarder_labels(of: &Match) -> Labels {
    let labels = &of.metadata.labels;
    if labels.is_empty() {
        [("p2p".to_owned(), "true".to_owned())].into()
    } else {
        labels.clone()
    }
}

/// The labels an endpoint registered for one of its services.
fn labels_for<'e>(endpoint: &'e NetworkServiceEndpoint, service: &str) -> &'e Labels {
    static NONE: Labels = Labels::new();
    endpoint
        .network_service_labels
        .get(service)
        .map_or(&NONE, |l| &l.labels)
}
