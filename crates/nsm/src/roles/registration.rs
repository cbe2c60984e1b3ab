//! What a role registers of itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nsm_api::registry::{NetworkService, NetworkServiceEndpoint, NetworkServiceLabels};
use nsm_chain::Target;
use nsm_model::url::EndpointUrl;
use nsm_policy::roles::Role;
use nsm_registry::{mirror::Mirror, remote::Remote};
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

/// How often a manager looks whether it is alone under its name.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Says so, as often as it begins, where another process is registered under this manager's name.
/// Both serve their nodes, but who looks for the name finds one of them alone.
pub(crate) async fn tell_of_doubles(mirror: Mirror, name: String, url: String) {
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let found = mirror.endpoint(&name).map(|record| record.url.clone());
        let other = found.filter(|found| *found != url);
        if let Some(other) = other.as_ref().filter(|other| Some(*other) != told.as_ref()) {
            tracing::error!(
                name,
                url,
                other,
                "another manager is registered under this name: it stands for one node alone; give one of them a --name and \
                 a --state-dir of its own"
            );
        }
        told = other;
    }
}
