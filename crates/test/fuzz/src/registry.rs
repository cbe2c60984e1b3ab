//! Services and endpoints as they are registered and asked for, and the choice among them.

use std::sync::Arc;

use nsm_api::registry::{
    Destination, NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointQuery,
    NetworkServiceEndpointResponse,
};
use nsm_chain::{Endpoints, Services};
use nsm_model::{
    select::{self, Rules},
    service,
};
use nsm_registry::{index::Index, record, record::Record};

use crate::{chunks, connection::stable};

/// Chunks: a service, a destination whose selector is a connection's labels, then endpoints.
pub fn registry(data: &[u8]) {
    let all = chunks(data);
    let mut all = all.iter();
    let service = all.next().and_then(|chunk| stable::<NetworkService>(chunk));
    let labels = all.next().and_then(|chunk| stable::<Destination>(chunk));
    let mut endpoints = Vec::new();
    for chunk in all {
        stable::<NetworkServiceEndpointQuery>(chunk);
        stable::<NetworkServiceEndpointResponse>(chunk);
        endpoints.extend(stable::<NetworkServiceEndpoint>(chunk));
    }
    let service = service.unwrap_or_default();
    let labels = labels.unwrap_or_default().destination_selector;
    written(&service);
    found::<Services>(std::slice::from_ref(&service));
    found::<Endpoints>(&endpoints);
    selected(&labels, &service, &endpoints);
}

/// What `nsm get -o yaml` shows of a record is the record, or is refused when it is applied.
fn written(service: &NetworkService) {
    let Ok(text) = service::to_yaml(service) else {
        return;
    };
    let Ok(read) = service::load_yaml(&text) else {
        return;
    };
    let mut plain = service.clone();
    plain.__buffa_unknown_fields = Default::default();
    for rule in &mut plain.matches {
        rule.__buffa_unknown_fields = Default::default();
        if let Some(metadata) = rule.metadata.as_option_mut() {
            metadata.__buffa_unknown_fields = Default::default();
        }
        for route in &mut rule.routes {
            route.__buffa_unknown_fields = Default::default();
        }
    }
    assert_eq!(read, [plain], "{text}");
}

/// A record is found by its name and by itself until it is gone, and nothing stays behind.
fn found<R: Record>(items: &[R::Item])
where
    R::Item: Clone,
{
    let mut index = Index::<R>::default();
    let mut revision = 0;
    for item in items.iter().filter(|item| record::check::<R>(item).is_ok()) {
        revision += 1;
        index.put(Arc::new(item.clone()), revision);
        let stored = index.get(R::id(item)).unwrap();
        assert!(*stored.item == *item && stored.revision == revision);
        assert!(
            index.find(item, None).iter().any(|f| **f == *item),
            "by itself"
        );
        assert!(R::wanted(item).len() <= R::terms(item).len());
    }
    assert_eq!(index.find(&R::Item::default(), None).len(), index.len());
    let ended = index.ended(std::time::UNIX_EPOCH, usize::MAX).len();
    assert!(ended <= index.len());
    let names: Vec<_> = index.names().cloned().collect();
    for name in names {
        assert!(index.remove(&name).is_some());
    }
    assert!(index.is_empty() && index.next_expiry().is_none());
    for item in items {
        assert!(index.find(item, None).is_empty());
    }
}

fn selected(
    labels: &nsm_model::labels::Labels,
    service: &NetworkService,
    endpoints: &[NetworkServiceEndpoint],
) {
    const NOW: i64 = 1_700_000_000;
    let failed: Vec<String> = endpoints.iter().take(1).map(|e| e.name.clone()).collect();
    let found = select::candidates(labels, service, endpoints, NOW, b"key", &failed);
    let rules = Rules::parse(service);
    assert!(found == rules.candidates(labels, endpoints, NOW, b"key", &failed));
    assert!(found.len() <= endpoints.len());
    assert!(found.is_empty() || select::applies(labels, service));
    assert!(found.is_sorted_by_key(|one| (one.failed, one.expired, one.tier)));
    for (at, candidate) in found.iter().enumerate() {
        let expired = select::expired(candidate.endpoint, NOW);
        assert!(candidate.weight >= 1 && candidate.expired == expired);
        let name = &candidate.endpoint.name;
        assert!(found[..at].iter().all(|other| other.endpoint.name != *name));
        assert_eq!(candidate.failed, failed.contains(name));
    }
    let forwarders = select::forwarders(labels, service, endpoints, &service.name);
    assert!(forwarders.len() <= endpoints.len());
}
