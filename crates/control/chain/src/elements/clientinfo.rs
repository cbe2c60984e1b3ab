//! `clientinfo`: labels that say where a client or an endpoint runs.
//!
//! *What it does*: adds `nodeName`, `podName` and `clusterName` where they are known and absent
//! (sdk `pkg/networkservice/common/clientinfo`, `pkg/registry/common/clientinfo`).
//! *Where it stands*: before whatever selects by labels.
//! *On Close*: nothing.

use std::collections::BTreeMap;

use async_trait::async_trait;
use nsm_api::{connection::Connection, registry::NetworkServiceEndpoint};

use crate::{Call, Connections, Element, Endpoints, Error, Kind, Next};

/// A kind whose items carry labels.
pub trait Labelled: Kind {
    /// Every set of labels of an item.
    fn labels(item: &mut Self::Item) -> Vec<&mut BTreeMap<String, String>>;
}

impl Labelled for Connections {
    fn labels(item: &mut Connection) -> Vec<&mut BTreeMap<String, String>> {
        vec![&mut item.labels]
    }
}

impl Labelled for Endpoints {
    fn labels(item: &mut NetworkServiceEndpoint) -> Vec<&mut BTreeMap<String, String>> {
        for service in &item.network_service_names {
            item.network_service_labels
                .entry(service.clone())
                .or_default();
        }
        item.network_service_labels
            .values_mut()
            .map(|labels| &mut labels.labels)
            .collect()
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct ClientInfo(BTreeMap<String, String>);

impl ClientInfo {
    /// The element that adds these labels (`nodeName`, `podName`, `clusterName`).
    #[must_use]
    pub fn new(labels: BTreeMap<String, String>) -> Self {
        Self(labels)
    }
}

#[async_trait]
impl<K: Labelled> Element<K> for ClientInfo {
    fn name(&self) -> &'static str {
        "clientinfo"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut request: K::Request,
        next: Next<K>,
    ) -> Result<K::Item, Error> {
        for labels in K::labels(K::item_mut(&mut request)) {
            for (key, value) in &self.0 {
                labels.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        next.request(call, request).await
    }
}
