//! What a role registers of itself.

use std::{collections::BTreeMap, sync::Arc};

use nsm_api::registry::{NetworkService, NetworkServiceEndpoint, NetworkServiceLabels};
use nsm_chain::Target;
use nsm_model::url::EndpointUrl;
use nsm_policy::roles::Role;
use nsm_registry::remote::Remote;
use nsm_rpc::Transport;
use nsm_sdk::{Offer, Registration};

use super::manager::MANAGER_SERVICE;
use crate::station::Station;

/// An endpoint's record: each service with the same labels.
pub(crate) fn endpoint(
    name: &str,
    url: &str,
    services: &[String],
    labels: &BTreeMap<String, String>,
) -> NetworkServiceEndpoint {
    let with_labels = || NetworkServiceLabels {
        labels: labels.clone(),
        ..Default::default()
    };
    NetworkServiceEndpoint {
        name: name.to_owned(),
        url: url.to_owned(),
        network_service_names: services.to_vec(),
        network_service_labels: services
            .iter()
            .map(|service| (service.clone(), with_labels()))
            .collect(),
        ..Default::default()
    }
}

/// Keeps an endpoint of this process registered at `target`, by this way there.
pub(crate) fn keep(
    way: Transport,
    station: &Station,
    target: Target,
    services: Vec<NetworkService>,
    endpoint: NetworkServiceEndpoint,
) -> Registration {
    let remote = Remote::new(way, target);
    Registration::keep(
        Arc::new(remote),
        Arc::new(station.tokens.clone()),
        Offer { services, endpoint },
    )
}

/// A manager is found by tools under a service of its own.
pub(crate) fn of_manager(
    station: &Station,
    registry: EndpointUrl,
    name: &str,
    url: &str,
) -> Registration {
    let record = endpoint(name, url, &[MANAGER_SERVICE.to_owned()], &BTreeMap::new());
    let way = station.to(&[Role::Registry]);
    keep(way, station, Target::Url(registry), Vec::new(), record)
}
